"""The graph of attention that TensorRT's engine does not build, to compare with the one that it does."""

from __future__ import annotations

from trt_server.engines.tensorrt.flavour import Flavour
from trt_server.engines.tensorrt.plan.attention_graph import graph_opset, takes_attention
from trt_server.model.graph.scoring_graph import ATTENTION_OPSET, OPSET


def other_opset(flavour: Flavour, version: str) -> int | None:
    """Return the opset that could be built instead in fp16; None where the parser takes only one."""
    if not takes_attention(flavour, version):
        return None
    return OPSET if graph_opset(flavour, version, "fp16") == ATTENTION_OPSET else ATTENTION_OPSET
