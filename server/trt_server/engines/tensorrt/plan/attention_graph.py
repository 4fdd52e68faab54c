"""The choice of TensorRT's graph: attention as primitive operators, or as one `Attention` a layer."""

from __future__ import annotations

from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, Flavour, version_numbers
from trt_server.model.graph.scoring_graph import OPSET

# The opset in fp16, where the parser takes both. With `Attention` TensorRT-RTX compiles one or two kernels
# more for each layer, and the plan needs more memory, except with grouped heads and no past, where it needs
# less (docs/measurements/2026-11-27-compiler.md). Neither was timed on a GPU, nor compiled with TensorRT.
_PREFERRED = {TENSORRT: OPSET, TENSORRT_RTX: OPSET}
# The first version of TensorRT whose parser takes `Attention`.
_FIRST_WITH_ATTENTION = (10, 14)


def graph_opset(flavour: Flavour, version: str, precision: str) -> int:
    """Return the opset of the graph that the engine builds.

    In fp32 it is the lower one: TensorRT-RTX parses `Attention` there and then fails to build it.
    """
    both = precision == "fp16" and takes_attention(flavour, version)
    return _PREFERRED[flavour] if both else OPSET


def takes_attention(flavour: Flavour, version: str) -> bool:
    """Return whether this version's parser takes the operator `Attention`."""
    return flavour is TENSORRT_RTX or version_numbers(version) >= _FIRST_WITH_ATTENTION
