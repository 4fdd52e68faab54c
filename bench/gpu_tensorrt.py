"""One measurement of bench.gpu: our engine at one or more batch sizes, in a process of its own.

    python -m bench.gpu_tensorrt PROMPTS.json CHECKPOINT --bs 1 [4 …] [--prefix-cache-bytes N]

With --build-only the plan is built, if it is not there, and nothing measured. Else prints a line of JSON for
each batch size, with its answers: each prompt's candidates' log-probabilities; and with memory for shared
prefixes one more: bs 1 after prefixes that a pass before has left there. Whole time is that of an engine kept
fed, two batches in flight: from the first batch assembled to the last outcome. Neither network nor queue are
in it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from trt_server.devices.device import Device
from trt_server.devices.gpu import Gpu
from trt_server.devices.nvml import gpu_device
from trt_server.engines.engine import Batch, EngineLimits, Outcome, Submission, next_token_batch
from trt_server.engines.tensorrt.library import TITLE
from trt_server.engines.tensorrt.plan.profiles import rounded_up
from trt_server.engines.tensorrt.run.engine import TensorRtEngine
from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan
from trt_server.model.files.checkpoint import open_checkpoint

from bench.found_gpu import find_gpu


@dataclass(frozen=True)
class Prompt:
    """Token ids, and candidates for the next; so many of the first ids come from the prefix store."""

    ids: list[int]
    candidates: list[int]
    prefix_tokens: int = 0


def main() -> None:
    """Build the plan, measure, and print."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--bs", type=int, nargs="+", required=True)
    parse.add_argument("--layers", type=Path)
    parse.add_argument("--build-only", action="store_true")
    parse.add_argument("--prefix-cache-bytes", type=int, default=0)
    parse.add_argument("prompts", type=Path)
    parse.add_argument("folder", type=Path)
    options = parse.parse_args()
    gpu = find_gpu()
    assert isinstance(gpu, Gpu)
    device = gpu_device(gpu.name, gpu.pci_bus_id)
    before = device.read().memory_used_by_all_bytes
    given = json.loads(options.prompts.read_text(encoding="utf-8"))
    prompts = [Prompt(each["ids"], each["candidates"]) for each in given]
    longest = max(len(prompt.ids) for prompt in prompts)
    limits = EngineLimits(longest, max(options.bs), options.prefix_cache_bytes)
    checkpoint = open_checkpoint(options.folder)
    if options.build_only:
        prepared = prepare_plan(checkpoint, limits, "fp16", tf32=False)
        print(json.dumps({"build_seconds": prepared.build_seconds}), flush=True)
        return
    engine = TensorRtEngine(checkpoint, limits, "fp16", tf32=False)
    engine.warm_up()
    if options.layers:
        options.layers.parent.mkdir(parents=True, exist_ok=True)
        options.layers.write_text(engine.layer_information(), encoding="utf-8")
    name = "TensorRT, past" if options.prefix_cache_bytes else "TensorRT"
    for bs in options.bs:
        report(engine, prompts, bs, {"name": name}, lambda: used(device, before))
    if options.prefix_cache_bytes:
        sharing = [
            replace(prompt, prefix_tokens=each["shared"]) for prompt, each in zip(prompts, given, strict=True)
        ]
        line = {"name": "TensorRT, reuse", "reused": True}
        report(engine, sharing, 1, line, lambda: used(device, before))
    engine.close()


def report(
    engine: TensorRtEngine,
    prompts: list[Prompt],
    bs: int,
    line: dict[str, Any],
    memory: Callable[[], int | None],
) -> None:
    """Measure after a pass that is not measured, and print."""
    measure(engine, prompts, bs)
    outcomes, whole = measure(engine, prompts, bs)
    if all(outcome.prefix_reused for outcome in outcomes) != bool(line.get("reused")):
        sys.exit("bench.gpu_tensorrt: not all prefixes were kept: use fewer questions")
    figures = {
        **line,
        "version": TITLE,
        "bs": bs,
        "core_seconds": sum(outcome.timing.core_ns for outcome in outcomes) / 1e9,
        "whole_seconds": whole,
        "memory_bytes": memory(),
        "sheet": engine.description.peak.flops_per_second,
        "build_seconds": engine.description.build_seconds,
        "load_seconds": engine.description.load_seconds,
        "event_cost_ns": engine.event_cost_ns,
        "answers": answers(outcomes),
    }
    print(json.dumps(figures), flush=True)


def answers(outcomes: list[Outcome]) -> list[list[float]]:
    """Return each prompt's candidates' log-probabilities; all prompts have as many."""
    rows = (each.scores.target_logprobs.reshape(len(each.scores.top_token), -1) for each in outcomes)
    return [row for batch in rows for row in batch.tolist()]


def used(device: Device, before: int | None) -> int | None:
    """Return the bytes that were used since `before`."""
    now = device.read().memory_used_by_all_bytes
    return None if now is None or before is None else now - before


def batch_of(prompts: list[Prompt]) -> Batch:
    """Return a batch, padded on the right, of prompts that have the same prefix, or none."""
    prefix_tokens = prompts[0].prefix_tokens
    rests = [prompt.ids[prefix_tokens:] for prompt in prompts]
    tokens = np.zeros((len(rests), rounded_up(max(map(len, rests)))), np.int32)
    for row, rest in zip(tokens, rests, strict=True):
        row[: len(rest)] = rest
    lengths = np.array([len(rest) for rest in rests], np.int32)
    candidates = np.array([prompt.candidates for prompt in prompts], np.int32)
    batch = next_token_batch(tokens, lengths, candidates, first_position=prefix_tokens)
    if not prefix_tokens:
        return batch
    return replace(batch, prefix=np.array(prompts[0].ids[:prefix_tokens], np.int32))


def measure(engine: TensorRtEngine, prompts: list[Prompt], bs: int) -> tuple[list[Outcome], float]:
    """Return the outcomes of all batches, and the seconds of whole time."""
    running: deque[Submission] = deque()
    outcomes: list[Outcome] = []
    start = time.perf_counter()
    for first in range(0, len(prompts), bs):
        if len(running) == engine.depth:
            outcomes.append(running.popleft().wait())
        running.append(engine.submit(batch_of(prompts[first : first + bs])))
    outcomes += [submission.wait() for submission in running]
    return outcomes, time.perf_counter() - start


if __name__ == "__main__":
    main()
