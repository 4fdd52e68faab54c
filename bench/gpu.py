"""TensorRT against PyTorch on one GPU: the same prompts, weights and clock, side by side.

    python -m bench.gpu [--model dummy:aquila-7b] [--data FOLDER] [--bs 1 4 16] [--output FILE.json]

Core time is between two CUDA events around the work in each. PyTorch, and the device's own rate of matrix
products, are measured in the Python that REFERENCE_PYTHON names (this one if it has PyTorch, else the first
other python3). Every measurement runs in a process of its own, one after the other, and none is begun that
the time left (--seconds, in all) does not allow: what was left out is said.

Answers are compared too: in the last column stands the largest difference of a candidate's log-probability
from PyTorch's, or, of prompts that it was not asked, from ours without reuse. Answers that are no numbers end
the bench with status 1.

--reuse also builds the plan that keeps shared prefixes, and measures it at bs 1 on prompts of a few subjects:
whole, and after prefixes that are there already. Tokens, MFU and seconds are then those of what was computed.

A plan is built in a process of its own before it is measured; with --build-only nothing else is done, and a
later call finds the plans. PyTorch's eager core time at bs 1 has in it what the device waits for the next
kernel: no other batch is queued behind, as is in ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.limit import prompt_limit
from mmlu_client.prompts.prompt import Prompt
from mmlu_client.prompts.tokenizer import named_tokenizer
from trt_common.command_line.streams import take_any_text
from trt_common.model.flops import text_flops
from trt_common.model.geometry import Geometry
from trt_server.devices.nvml import gpu_device
from trt_server.engines.tensorrt.presence import Missing
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.source import resolve_model

from bench.found_gpu import find_gpu
from bench.reference_python import reference_environment, reference_python

HERE = Path(__file__).parent
# The least seconds to begin a measurement with; one that takes longer is ended when the time is up.
_LEAST_SECONDS = 20.0
# The memory for prefixes holds the shots of this many subjects: 512 KiB a token of a 7 B model without
# grouped heads.
_REUSE_SUBJECTS = 4
_PREFIXES = str(6 * 1024**3)


@dataclass(frozen=True)
class Measured:
    """One way to run the prompts at one batch size.

    Attributes:
        tokens: The computed tokens, without padding.
        flops: Their FLOPs.
    """

    name: str
    bs: int
    tokens: int
    flops: int
    core_seconds: float
    whole_seconds: float
    memory_bytes: int | None
    difference: float | None

    def line(self, rate: float | None, sheet: float | None) -> str:
        """Return the row of the table."""
        cells = (
            f"{self.name:<18}",
            f"{self.bs:>3}",
            f"{self.tokens / self.core_seconds:>10.0f}",
            f"{self.tokens / self.whole_seconds:>10.0f}",
            f"{self.core_seconds / self.whole_seconds:>10.4f}",
            f"{self._share(rate):>8}",
            f"{self._share(sheet):>8}",
            "       /" if self.memory_bytes is None else f"{self.memory_bytes / 1024**3:>8.2f}",
            "       /" if self.difference is None else f"{self.difference:>8.4f}",
        )
        return " ".join(cells)

    def _share(self, rate: float | None) -> str:
        return "/" if not rate else f"{self.flops / self.core_seconds / rate:.1%}"


_HEADER = (
    f"{'':<18} {'bs':>3} {'core tok/s':>10} {'whole tok/s':>10} {'whole/core':>10} "
    f"{'of rate':>8} {'of sheet':>8} {'GiB':>8} {'apart':>8}"
)


@dataclass(frozen=True)
class Runner:
    """A program of this bench, with the Python and the environment that it runs in."""

    python: str
    program: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class PromptFile:
    """A file of 5-shot prompts: [{"ids": […], "shared": n, "candidates": […]}, …].

    The first n ids are those of the shared prefix.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def read(self) -> list[dict[str, Any]]:
        """Return the prompts."""
        found: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def description(self) -> str:
        """The number of prompts and their tokens, in words."""
        lengths = [len(prompt["ids"]) for prompt in self.read()]
        return f"{len(lengths)} prompts of {sum(lengths) / len(lengths):.0f} tokens on average"


class Bench:
    """Runs the measurements one after the other while there is time."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._folder = folder
        self._end = time.monotonic() + options.seconds
        self.left_out: list[str] = []

    def run(self, name: str, runner: Runner, prompts: PromptFile, *flags: str) -> list[dict[str, Any]]:
        """Return the lines of JSON that the program printed, each with the prompts' name.

        It is empty where the measurement was left out.
        """
        left = self._end - time.monotonic()
        if left < _LEAST_SECONDS:
            self.left_out.append(f"{name}: no time left")
            return []
        print(f"… {name} ({left:.0f} s left)", file=sys.stderr, flush=True)
        command = [runner.python, *runner.program, str(prompts.path), str(self._folder), *flags]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
            try:
                done = subprocess.run(
                    command, stdout=out, timeout=left, env=runner.environment, cwd=HERE.parent, check=False
                )
                if done.returncode:
                    self.left_out.append(f"{name}: failed with status {done.returncode}")
            except subprocess.TimeoutExpired:
                self.left_out.append(f"{name}: not done in the time left")
            out.seek(0)
            return [{**json.loads(line), "prompts": prompts.name} for line in out if line.startswith("{")]


def main() -> None:
    """Run the measurements and print the table."""
    take_any_text()
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--model", default="dummy:aquila-7b", help="dummy:<geometry> or a folder")
    parse.add_argument("--data", default="demo", help="MMLU: demo, or a folder in either published layout")
    parse.add_argument("--bs", type=int, nargs="+", default=[1, 4, 16])
    parse.add_argument("--questions", type=int, default=48)
    parse.add_argument("--seconds", type=float, default=450.0, help="for everything")
    parse.add_argument("--build-only", action="store_true", help="build the plans, for a later call")
    parse.add_argument("--reuse", action="store_true", help="also measure shared prefixes at bs 1")
    parse.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    parse.add_argument("--layers", type=Path, help="folder for what each plan runs, layer by layer, as JSON")
    options = parse.parse_args()
    gpu = find_gpu()
    if isinstance(gpu, Missing):
        sys.exit(f"bench.gpu: TensorRT cannot run here: {gpu.reason}")
    folder = resolve_model(options.model, "fp16").folder
    geometry = open_checkpoint(folder).geometry
    with tempfile.TemporaryDirectory() as scratch:
        spread = _prompts(options, geometry, Path(scratch) / "spread.json", options.questions)
        sharing = _prompts(options, geometry, Path(scratch) / "sharing.json", _REUSE_SUBJECTS)
        bench = Bench(options, folder)
        found = _measure(options, bench, spread, sharing)
        if not options.build_only:
            _report(options, geometry, bench, found, [spread, *([sharing] if options.reuse else [])])
        for text in bench.left_out:
            print(f"not done: {text}")
        _check_numbers(found)


def _prompts(options: argparse.Namespace, geometry: Geometry, path: Path, most_subjects: int) -> PromptFile:
    """Write the same number of questions of each of the subjects."""
    benchmark = load_benchmark(options.data)
    subjects = benchmark.pick_subjects(None)[:most_subjects]
    each = -(-options.questions // len(subjects))
    builder = PromptBuilder(
        # The demo's ids are in every vocabulary, and all ids take the same time.
        named_tokenizer("demo"),
        FORMATS["hendrycks"],
        benchmark.shots(subjects, 5),
        prompt_limit(FORMATS["hendrycks"], None, geometry.max_positions).tokens,
        geometry.vocabulary_size,
    )
    built = builder.build(benchmark.questions(subjects, each))
    prompts = [prompt for prompt in built if isinstance(prompt, Prompt)][: options.questions]
    given = [
        {
            "ids": list(prompt.token_ids),
            "shared": prompt.shared_prefix_tokens,
            "candidates": list(prompt.candidate_ids),
        }
        for prompt in prompts
    ]
    path.write_text(json.dumps(given), encoding="utf-8")
    return PromptFile(path)


def _measure(
    options: argparse.Namespace, bench: Bench, spread: PromptFile, sharing: PromptFile
) -> list[dict[str, Any]]:
    ours = Runner(sys.executable, ["-m", "bench.gpu_tensorrt"], dict(os.environ))
    theirs = Runner(reference_python(), [str(HERE / "gpu_torch.py")], reference_environment())
    sizes = [str(bs) for bs in sorted(options.bs)]
    batches = [size for size in sizes if size != "1"]
    found: list[dict[str, Any]] = []

    def ask_pytorch(name: str, mode: str, *sizes: str) -> None:
        if not options.build_only:
            found.extend(bench.run(name, theirs, spread, "--mode", mode, "--bs", *sizes))

    def ask_tensorrt(name: str, plan: str, prompts: PromptFile, *flags: str) -> None:
        found.extend(bench.run(f"{name}: the plan", ours, prompts, *flags, "--build-only"))
        if not options.build_only:
            layers = ["--layers", str(options.layers / f"{plan}.json")] if options.layers else []
            found.extend(bench.run(name, ours, prompts, *flags, *layers))

    # Building a plan takes longest and is least certain, so it comes after what it is compared with.
    ask_pytorch("matrix products", "rate", "1")
    ask_pytorch("PyTorch", "eager", *sizes)
    if "1" in sizes:
        # bs 1 has a plan of its own, whose memory is what single prompts need.
        ask_tensorrt("TensorRT, bs 1", "bs-1", spread, "--bs", "1")
    if options.reuse:
        name = "TensorRT, with shared prefixes"
        ask_tensorrt(name, "prefixes", sharing, "--bs", "1", "--prefix-cache-bytes", _PREFIXES)
    if batches:
        ask_tensorrt(f"TensorRT, bs {', '.join(batches)}", "batches", spread, "--bs", *batches)
    ask_pytorch("PyTorch, compiled", "compiled", *sizes)
    return found


def _report(
    options: argparse.Namespace,
    geometry: Geometry,
    bench: Bench,
    found: list[dict[str, Any]],
    files: list[PromptFile],
) -> None:
    prompts = {file.name: file.read() for file in files}
    rate = next((line["rate"] for line in found if "rate" in line), None)
    sheet = next((line["sheet"] for line in found if line.get("sheet")), None)
    rows = [
        Measured(
            line["name"],
            line["bs"],
            *_work(geometry, prompts[line["prompts"]], line.get("reused", False)),
            line["core_seconds"],
            line["whole_seconds"],
            line["memory_bytes"],
            _difference(line, found),
        )
        for line in found
        if "core_seconds" in line
    ]
    print(f"{options.model}, fp16, {files[0].description()}, {_device_line()}")
    for file in files[1:]:
        print(f"with shared prefixes: {file.description()}")
    if options.data == "demo":
        print("the bundled questions are short: --data FOLDER takes MMLU's own")
    print(f"versions: {', '.join(dict.fromkeys(line['version'] for line in found if 'version' in line))}")
    print(
        f"matrix products: {'/' if rate is None else f'{rate / 1e12:.1f} TFLOP/s'}, datasheet: "
        f"{'/' if sheet is None else f'{sheet / 1e12:.1f} TFLOP/s'}"
    )
    print(_HEADER)
    for row in rows:
        print(row.line(rate, sheet))
    if options.output:
        options.output.write_text(
            json.dumps({"command": sys.argv, "found": found, "left_out": bench.left_out}, indent=2),
            encoding="utf-8",
        )


def _work(geometry: Geometry, prompts: list[dict[str, Any]], reused: bool) -> tuple[int, int]:
    """Return the computed tokens and their FLOPs; with `reused` those after the shared prefixes."""
    stretches = [(prompt["shared"] if reused else 0, len(prompt["ids"])) for prompt in prompts]
    flops = sum(text_flops(geometry, [stretch], scored_positions=1) for stretch in stretches)
    return sum(end - start for start, end in stretches), flops


def _difference(line: dict[str, Any], found: list[dict[str, Any]]) -> float | None:
    """Return the largest difference of a log-probability from the first program that ran these prompts.

    It is None for the first program itself.
    """
    first = next(other for other in found if "answers" in other and other["prompts"] == line["prompts"])
    if line is first:
        return None
    return float(np.abs(np.subtract(line["answers"], first["answers"])).max())


def _check_numbers(found: list[dict[str, Any]]) -> None:
    """Exit where an answer is infinite or not a number."""
    for line in found:
        if not np.isfinite(line.get("answers", 0)).all():
            sys.exit(f"bench.gpu: {line['name']} at bs {line['bs']} answers what is no number")


def _device_line() -> str:
    gpu = find_gpu()
    if isinstance(gpu, Missing):
        return "no device"
    reading = gpu_device(gpu.name, gpu.pci_bus_id).read()
    clock = "" if reading.sm_clock_hertz is None else f" at {reading.sm_clock_hertz / 1e6:.0f} MHz now"
    return f"{gpu.name}{clock}"


if __name__ == "__main__":
    main()
