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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from trt_server.devices.device import Device
from trt_server.devices.nvml import gpu_device
from trt_server.engines.engine import EngineLimits, Outcome, Submission
from trt_server.engines.tensorrt.engine import TensorRtEngine
from trt_server.engines.tensorrt.library import TITLE
from trt_server.engines.tensorrt.plan_for_device import prepare_plan
from trt_server.engines.tensorrt.presence import Gpu, find_gpu
from trt_server.engines.tensorrt.profiles import LENGTH_MULTIPLE
from trt_server.model.checkpoint import open_checkpoint
from trt_server.scheduling.request import TokenPrompt
from trt_server.scheduling.work import make_batch


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
    prompts = [
        TokenPrompt(np.array(each["ids"], np.int32), np.array(each["candidates"], np.int32)) for each in given
    ]
    longest = max(len(prompt.token_ids) for prompt in prompts)
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
            replace(prompt, reusable_tokens=each["shared"])
            for prompt, each in zip(prompts, given, strict=True)
        ]
        line = {"name": "TensorRT, reuse", "reused": True}
        report(engine, sharing, 1, line, lambda: used(device, before))
    engine.close()


def report(
    engine: TensorRtEngine,
    prompts: list[TokenPrompt],
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
        "answers": [row for outcome in outcomes for row in outcome.scores.candidate_logprobs.tolist()],
    }
    print(json.dumps(figures), flush=True)


def used(device: Device, before: int | None) -> int | None:
    """Return the bytes that were used since `before`."""
    now = device.read().memory_used_by_all_bytes
    return None if now is None or before is None else now - before


def measure(engine: TensorRtEngine, prompts: list[TokenPrompt], bs: int) -> tuple[list[Outcome], float]:
    """Return the outcomes of all batches, and the seconds of whole time."""
    running: deque[Submission] = deque()
    outcomes: list[Outcome] = []
    start = time.perf_counter()
    for first in range(0, len(prompts), bs):
        if len(running) == engine.depth:
            outcomes.append(running.popleft().wait())
        running.append(engine.submit(make_batch(prompts[first : first + bs], LENGTH_MULTIPLE)))
    outcomes += [submission.wait() for submission in running]
    return outcomes, time.perf_counter() - start


if __name__ == "__main__":
    main()
