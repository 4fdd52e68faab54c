"""One measurement of bench.gpu: our engine at one or more batch sizes, in a process of its own.

    python -m bench.gpu_tensorrt PROMPTS.json CHECKPOINT --bs 1 [4 …]

Prints a line of JSON for each batch size. Whole time is that of an engine kept fed, two batches in flight:
from the first batch assembled to the last outcome. Neither network nor queue are in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from pathlib import Path

import numpy as np
from trt_server.engines.engine import EngineLimits, Submission
from trt_server.engines.tensorrt.engine import TensorRtEngine
from trt_server.engines.tensorrt.presence import Gpu, find_gpu
from trt_server.engines.tensorrt.profiles import LENGTH_MULTIPLE
from trt_server.model.checkpoint import open_checkpoint
from trt_server.nvml import gpu_device
from trt_server.request import TokenPrompt, assemble

_CANDIDATES = np.array([10, 11, 12, 13], np.int32)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--bs", type=int, nargs="+", required=True)
    parse.add_argument("--layers", type=Path)
    parse.add_argument("prompts", type=Path)
    parse.add_argument("folder", type=Path)
    options = parse.parse_args()
    gpu = find_gpu()
    assert isinstance(gpu, Gpu)
    device = gpu_device(gpu.name, gpu.pci_bus_id)
    before = device.read().memory_used_by_all_bytes
    prompts = [np.array(ids, np.int32) for ids in json.loads(options.prompts.read_text())]
    limits = EngineLimits(max(map(len, prompts)), max(options.bs))
    engine = TensorRtEngine(open_checkpoint(options.folder), limits, "fp16", tf32=False)
    engine.warm_up()
    if options.layers:
        options.layers.write_text(engine.layer_information())
    for bs in options.bs:
        measure(engine, prompts, bs)
        core, whole = measure(engine, prompts, bs)
        now = device.read().memory_used_by_all_bytes
        figures = {
            "name": "TensorRT",
            "version": f"TensorRT {engine.description.version}",
            "bs": bs,
            "core_seconds": core,
            "whole_seconds": whole,
            "memory_bytes": None if now is None or before is None else now - before,
            "sheet": engine.description.peak.flops_per_second,
            "build_seconds": engine.description.build_seconds,
            "load_seconds": engine.description.load_seconds,
            "event_cost_ns": engine.event_cost_ns,
        }
        print(json.dumps(figures), flush=True)
    engine.close()


def measure(engine: TensorRtEngine, prompts: list[np.ndarray], bs: int) -> tuple[float, float]:
    """Seconds of core and whole time of all prompts."""
    running: deque[Submission] = deque()
    core_ns, start = 0, time.perf_counter()
    for first in range(0, len(prompts), bs):
        if len(running) == engine.depth:
            core_ns += running.popleft().wait().timing.core_ns
        (part,) = assemble(
            [TokenPrompt(ids, _CANDIDATES) for ids in prompts[first : first + bs]], LENGTH_MULTIPLE
        )
        running.append(engine.submit(part.batch))
    while running:
        core_ns += running.popleft().wait().timing.core_ns
    return core_ns / 1e9, time.perf_counter() - start


if __name__ == "__main__":
    main()
