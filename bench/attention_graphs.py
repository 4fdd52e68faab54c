"""Compares both graphs of attention in the installed compiler: kernels a layer and memory, in fp16.

    python -m bench.attention_graphs [--target sm86] [--tokens 2048] [--large]

It needs TensorRT-RTX and no GPU. It compiles a small model of every family, and a layer of 2,048 with heads
of 128; with --large also layers as wide as those of 7 B parameters, which takes some GB of memory. It prints
a table in Markdown.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpu.families import FAMILIES, MAX_TOKENS, WIDE_SIZES, write_family
from trt_common.model.geometry import Geometry
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.library import TITLE
from trt_server.engines.tensorrt.plan.prepared import prepare_for
from trt_server.engines.tensorrt.plan.profiles import rounded_up
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.model.files.checkpoint import Checkpoint, open_checkpoint
from trt_server.model.graph.scoring_graph import ATTENTION_OPSET, OPSET

from bench.layer_list import Kernel, attention_is_one_kernel, kernels_a_layer, read_layer_list

GRAPHS = {OPSET: "primitive", ATTENTION_OPSET: "Attention"}
PREFIX_BYTES = 1 << 30
_MEMORY = re.compile(r"Max Scratch Memory: (\d+) bytes")
_HEADS_OF_128 = {"hidden_size": 2048, "intermediate_size": 5504, "num_attention_heads": 16}


@dataclass(frozen=True)
class Compiled:
    """What the compiler makes of a graph.

    Attributes:
        scratch_bytes: The scratch memory of the profile that needs most.
    """

    profiles: list[list[Kernel]]
    scratch_bytes: int

    @property
    def kernels_a_layer(self) -> int:
        """The number of kernels in a layer."""
        return max(map(kernels_a_layer, self.profiles))

    def is_fused(self, layers: int) -> bool:
        """Return whether attention is one kernel in each layer, in every profile."""
        return all(
            attention_is_one_kernel(kernels, layer) for kernels in self.profiles for layer in range(layers)
        )


def compiled(checkpoint: Checkpoint, limits: EngineLimits, target: PlanTarget, opset: int) -> Compiled:
    """Build the graph of this opset as the engine does; there must be no plan of it in the cache.

    Raises:
        StartError: It does not build.
    """
    with _scratch_bytes() as sizes:
        plan = prepare_for(target, checkpoint, limits, "fp16", False, str, opset).plan
    return Compiled(read_layer_list(plan.layers), max(sizes))


def spread_bytes(geometry: Geometry, tokens: int) -> int:
    """Return the further bytes of one layer's keys and values in fp16 where every query head has its own."""
    copies = geometry.query_heads - geometry.key_value_heads
    return 2 * copies * rounded_up(tokens) * geometry.head_size * 2


@contextmanager
def _scratch_bytes() -> Iterator[list[int]]:
    """Collect the scratch memory of each profile that builders report meanwhile."""
    sizes: list[int] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if found := _MEMORY.search(record.getMessage()):
                sizes.append(int(found[1]))

    log, reader = logging.getLogger("tensorrt"), Reader()
    level, propagate = log.level, log.propagate
    log.addHandler(reader)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield sizes
    finally:
        log.removeHandler(reader)
        log.setLevel(level)
        log.propagate = propagate


def _cases(large: bool, tokens: int) -> Iterator[tuple[str, str, Mapping[str, int], int]]:
    """Yield description, family, sizes and longest prompt of each model."""
    for family in FAMILIES:
        yield f"{family}, small", family, {}, MAX_TOKENS
    for heads in (16, 4):
        sizes = {**_HEADS_OF_128, "num_key_value_heads": heads, "num_hidden_layers": 3}
        yield f"hidden 2,048, 16 heads over {heads}", "llama", sizes, tokens
    if large:
        for heads in (32, 8):
            yield (
                f"hidden 4,096, 32 heads over {heads}",
                "llama",
                {**WIDE_SIZES, "num_key_value_heads": heads},
                tokens,
            )


def main() -> None:
    """Print the table."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--target", default="sm86", help="compute capability to build for")
    parse.add_argument("--tokens", type=int, default=2048, help="longest prompt of the wider layers")
    parse.add_argument("--large", action="store_true", help="layers of 7 B width too")
    options = parse.parse_args()
    target = PlanTarget("", (options.target,))
    print(f"{TITLE}, {options.target}, fp16\n")
    print("| model | past | graph | kernels a layer | attention is one kernel | scratch MB |")
    print("|---|---|---|---|---|---|")
    for what, family, sizes, tokens in _cases(options.large, options.tokens):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TRT_SERVER_CACHE"] = str(Path(folder) / "cache")
            checkpoint = open_checkpoint(write_family(Path(folder) / "checkpoint", family, sizes=sizes))
            for past in (0, PREFIX_BYTES):
                for opset, graph in GRAPHS.items():
                    found = compiled(checkpoint, EngineLimits(tokens, 1, past), target, opset)
                    fused = "yes" if found.is_fused(checkpoint.geometry.layers) else "no"
                    print(
                        f"| {what} | {'yes' if past else 'no'} | {graph} | {found.kernels_a_layer} | {fused} "
                        f"| {found.scratch_bytes / 1e6:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
