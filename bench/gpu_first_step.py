"""One step of bench.gpu_first, in a process of its own: prints lines of JSON.

    python -m bench.gpu_first_step STEP FOLDER [--layers FILE] [--variant past|graph]

STEP: small or wide (writes checkpoints), runs, agrees, repeats, layers, one. FOLDER: the checkpoints', or for
layers and one the checkpoint's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gpu.families import PROMPTS, VOCABULARY, WIDE_SIZES, write_family
from numpy.typing import NDArray
from trt_common.model.flops import text_flops
from trt_server.engines.engine import Batch, EngineLimits, Outcome, next_token_batch
from trt_server.engines.tensorrt.library import FLAVOUR, TITLE, VERSION
from trt_server.engines.tensorrt.plan.attention_graph import graph_opset
from trt_server.engines.tensorrt.run.engine import TensorRtEngine
from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan
from trt_server.model.files.checkpoint import open_checkpoint

from bench.layer_list import Kernel, attention_is_one_kernel, kernels_a_layer, read_layer_list
from bench.other_graph import other_opset
from bench.reference_python import reference_environment, reference_python

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "tests" / "gpu" / "reference.py"
FAMILIES = ("llama", "qwen3")
MAX_TOKENS, BATCH = 250, 4
# The average tokens of a prompt of MMLU 5-shot; and the prompts of the largest batch of small checkpoints.
WIDE_TOKENS = 805
RAGGED = (0, 1, 2, 3)
_WARM, _TIMED = 3, 20
_PREFIX_BYTES = 64 << 20
# The variants of the layers' plan: one that takes a KV cache; and one with the graph of attention that the
# engine does not use.
VARIANTS = {"past": "with a past", "graph": "with the other graph"}


def main() -> None:
    """Run the step and print its lines."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("step", choices=_STEPS)
    parse.add_argument("folder", type=Path)
    parse.add_argument("--layers", type=Path, help="where to write what the plan runs")
    parse.add_argument("--variant", choices=VARIANTS, help="what to build in place of the plan")
    parse.add_argument("--width", type=int, default=WIDE_SIZES["hidden_size"], help="of the wide layers")
    options = parse.parse_args()
    for line in _STEPS[options.step](options):
        print(json.dumps(line), flush=True)


def small(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Write checkpoints of two families, and PyTorch's answers."""
    folders = [write_family(options.folder / family, family) for family in FAMILIES]
    _ask_reference(PROMPTS, options.folder, folders)
    yield {"step": "small", "reference": reference_python()}


def wide(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Write checkpoints of 2 and 6 layers as wide as a 7 B model's."""
    share = options.width / WIDE_SIZES["hidden_size"]
    sizes = {name: round(size * share) for name, size in WIDE_SIZES.items()}
    folders = []
    for layers in (2, 6):
        folder = options.folder / f"wide-{layers}"
        folders.append(write_family(folder, "llama", sizes={**sizes, "num_hidden_layers": layers}))
    _ask_reference([wide_prompt()], options.folder, folders[:1])
    yield {"step": "wide"}


def runs(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Run a batch on a small plan."""
    with _engine(options.folder / FAMILIES[0], "fp16") as engine:
        outcome = engine.submit(_batch(4)).wait()
        yield {
            "step": "runs",
            "finite": bool(np.isfinite(outcome.scores.target_logprobs).all()),
            "version": TITLE,
            "device": engine.description.device,
            "event_cost_us": engine.event_cost_ns / 1e3,
            "build_seconds": engine.description.build_seconds,
            "load_seconds": engine.description.load_seconds,
        }


def agrees(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Yield the largest difference of a log-probability from PyTorch by precision.

    Prompts are run alone and in a ragged batch.
    """
    worst: dict[str, float] = {}
    for family in FAMILIES:
        expected = dict(np.load(options.folder / f"{family}.npz"))
        for precision in ("fp16", "fp32"):
            with _engine(options.folder / family, precision) as engine:
                found = [_difference(engine, numbers, expected) for numbers in ((4,), (1,), RAGGED)]
            worst[precision] = max(worst.get(precision, 0.0), *found)
    yield {"step": "agrees", **worst}


def repeats(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Yield whether the same batch gives the same answers."""
    with _engine(options.folder / FAMILIES[0], "fp16") as engine:
        batches = [_batch(5), _batch(*RAGGED)]
        first = [_bits(engine.submit(batch).wait()) for batch in batches]
        again = [_bits(engine.submit(batch).wait()) for batch in batches]
        flying = [engine.submit(batch) for batch in batches]
        together = [_bits(submission.wait()) for submission in flying]
    yield {"step": "repeats", "profiles": again == first, "in_flight": together == first}


def layers(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Yield the plan's kernels, its core time at bs 1 and its difference from PyTorch."""
    checkpoint = open_checkpoint(options.folder)
    other = other_opset(FLAVOUR, VERSION)
    past = _PREFIX_BYTES if options.variant == "past" else 0
    opset = other if options.variant == "graph" else graph_opset(FLAVOUR, VERSION, "fp16")
    if opset is None:
        raise SystemExit(f"{TITLE} takes no graph but the one that it gets")
    title = f"TensorRT {VARIANTS[options.variant]}" if options.variant else "TensorRT"
    with _engine(options.folder, "fp16", WIDE_TOKENS, 1, past, opset) as engine:
        engine.warm_up()
        prompt = wide_prompt()
        batch = _batch(0, of=[prompt])
        outcomes = [engine.submit(batch).wait() for _ in range(_WARM + _TIMED)]
        line = {
            "step": "layers",
            "name": f"{title}, {checkpoint.geometry.layers} layers",
            "opset": opset,
            "other_opset": other,
            "core_ms": float(np.median([outcome.timing.core_ns for outcome in outcomes[_WARM:]])) / 1e6,
            "flops": text_flops(checkpoint.geometry, [(0, len(prompt))], scored_positions=1),
            "sheet": engine.description.peak.flops_per_second,
            "build_seconds": engine.description.build_seconds,
            "kernels": _told(engine, options.layers, checkpoint.geometry.layers),
        }
        reference = options.folder.parent / f"{options.folder.name}.npz"
        if reference.is_file():
            line["difference"] = _distance(batch, outcomes[-1], [np.load(reference)["0"]])
        yield line


def one(options: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Run one prompt between a profiler's start and stop."""
    import pycuda.driver as cuda

    with _engine(options.folder, "fp16", WIDE_TOKENS, 1) as engine:
        engine.warm_up()
        cuda.start_profiler()
        start = time.perf_counter()
        engine.submit(_batch(0, of=[wide_prompt()])).wait()
        cuda.stop_profiler()
        yield {"step": "one", "whole_ms": (time.perf_counter() - start) * 1e3}


def wide_prompt() -> NDArray[np.int32]:
    """Return the prompt for the wide layers."""
    return np.random.default_rng(2).integers(2, VOCABULARY, WIDE_TOKENS).astype(np.int32)


@contextmanager
def _engine(
    folder: Path,
    precision: str,
    tokens: int = MAX_TOKENS,
    prompts: int = BATCH,
    past: int = 0,
    opset: int | None = None,
) -> Iterator[TensorRtEngine]:
    checkpoint, limits = open_checkpoint(folder), EngineLimits(tokens, prompts, past)
    plan = prepare_plan(checkpoint, limits, precision, tf32=False, opset=opset)
    engine = TensorRtEngine(checkpoint, limits, precision, tf32=False, prepared=plan)
    try:
        yield engine
    finally:
        engine.close()


def _batch(*numbers: int, of: list[NDArray[np.int32]] = PROMPTS) -> Batch:
    """Return the prompts with these numbers, each with a few candidates."""
    prompts = [of[number] for number in numbers]
    tokens = np.zeros((len(prompts), -(-max(map(len, prompts)) // 8) * 8), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt)] = prompt
    candidates = np.arange(4, dtype=np.int32) * 31 + np.array(numbers, np.int32)[:, None]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    return next_token_batch(tokens, lengths, candidates % VOCABULARY)


def _difference(engine: TensorRtEngine, numbers: tuple[int, ...], expected: Mapping[str, Any]) -> float:
    batch = _batch(*numbers)
    return _distance(batch, engine.submit(batch).wait(), [expected[str(number)] for number in numbers])


def _distance(batch: Batch, outcome: Outcome, expected: list[NDArray[np.float32]]) -> float:
    """Return the largest difference of a candidate's log-probability; infinite where one is no number."""
    right = np.stack(expected)[batch.target_places, batch.target_ids]
    found = outcome.scores.target_logprobs
    return float(np.abs(found - right).max()) if np.isfinite(found).all() else float("inf")


def _bits(outcome: Outcome) -> tuple[bytes, ...]:
    scores = outcome.scores
    return tuple(array.tobytes() for array in (scores.target_logprobs, scores.top_token, scores.top_logprob))


def _told(engine: TensorRtEngine, file: Path | None, layers: int) -> dict[str, Any]:
    """Return what the list of kernels tells; empty where its format is not known."""
    text = engine.layer_information()
    if file is not None:
        file.write_text(text)
    try:
        (kernels, *_) = read_layer_list(text)
        a_layer = kernels_a_layer(kernels)
    except (KeyError, StopIteration, TypeError, ValueError):
        return {}
    numbers = range(layers)
    return {
        "a_layer": a_layer,
        "fused": all(attention_is_one_kernel(kernels, number) for number in numbers),
        "merged": all(
            _in_one(
                kernels, *(f"layers.{n}.attention.{name}.projected" for name in ("query", "key", "value"))
            )
            and _in_one(kernels, f"layers.{n}.mlp.gate", f"layers.{n}.mlp.up")
            for n in numbers
        ),
    }


def _in_one(kernels: list[Kernel], *nodes: str) -> bool:
    return any(kernel.computes(*nodes) for kernel in kernels)


def _ask_reference(asked: list[NDArray[np.int32]], out: Path, folders: list[Path]) -> None:
    """Write each checkpoint's answers beside it.

    Raises:
        CalledProcessError: PyTorch failed.
    """
    prompts = out / f"{folders[0].name}-prompts.npz"
    np.savez(prompts, *asked)
    command = [reference_python(), *map(str, (REFERENCE, prompts, out, *folders))]
    subprocess.run(command, check=True, env=reference_environment())


_STEPS = {step.__name__: step for step in (small, wide, runs, agrees, repeats, layers, one)}

if __name__ == "__main__":
    main()
