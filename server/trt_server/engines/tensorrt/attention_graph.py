"""Which graph TensorRT gets: attention as primitive operators, or as one `Attention` a layer."""

from __future__ import annotations

from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, Flavour, version_numbers
from trt_server.model.graph import ATTENTION_OPSET, OPSET

# Of the graph in fp16, where both parse. TensorRT-RTX's compiler makes one or two kernels a layer more of
# `Attention`, and needs more memory but for grouped heads without a past: there it needs less
# (docs/measurements/2026-11-27-compiler.md). No GPU has timed them; TensorRT's own compiler has seen neither.
_PREFERRED = {TENSORRT: OPSET, TENSORRT_RTX: OPSET}
# Whose parser is the first to take `Attention`.
_FIRST_WITH_ATTENTION = (10, 14)


def graph_opset(flavour: Flavour, version: str, precision: str) -> int:
    """The opset of the graph that the engine builds.

    In fp32 TensorRT-RTX parses `Attention` and then fails to build it.
    """
    both = precision == "fp16" and _takes_attention(flavour, version)
    return _PREFERRED[flavour] if both else OPSET


def other_opset(flavour: Flavour, version: str) -> int | None:
    """That of the graph which could be built instead in fp16; None where only one parses."""
    if not _takes_attention(flavour, version):
        return None
    return OPSET if _PREFERRED[flavour] == ATTENTION_OPSET else ATTENTION_OPSET


def _takes_attention(flavour: Flavour, version: str) -> bool:
    return flavour is TENSORRT_RTX or version_numbers(version) >= _FIRST_WITH_ATTENTION
