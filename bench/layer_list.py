"""The compiler's list of what a plan runs: kernels in order, and the nodes of the graph in each.

The builder gives it as text, the inspector as JSON; `trt-server build --layers` writes either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# The parts of a line of the builder's description, which also has inputs, outputs and weights.
_NAME = re.compile(r"^Name: (.*?), LayerType: .*$", re.MULTILINE)
_TACTIC = re.compile(r", TacticName: (.*?), StreamId: ")
_METADATA = re.compile(r", Metadata:(.*)$")
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_ATTENTION = ("scores", "shares", "context")
# Words in the name of a kernel of fused attention.
_FUSED = "mha"
_PROFILE = re.compile(r" ?\[profile (\d+)\]")


@dataclass(frozen=True)
class Kernel:
    """A kernel of a plan.

    Attributes:
        nodes: The names of the graph's nodes that it computes, in the compiler's order.
    """

    name: str
    nodes: tuple[str, ...]

    def computes(self, *nodes: str) -> bool:
        """Return whether it computes all of these nodes."""
        return set(nodes) <= set(self.nodes)


def read_layer_list(text: str) -> list[list[Kernel]]:
    """Return the kernels of each profile. A layer without tactic and node, such as a size, is no kernel."""
    rows = _from_json(text) if text.lstrip().startswith("{") else _from_text(text)
    profiles: dict[int, list[Kernel]] = {}
    profile = 0
    for name, tactic, nodes in rows:
        # Only some of a profile's layers have its number, but profiles come one after the other.
        if (found := _PROFILE.search(name + nodes)) is not None:
            profile = int(found[1])
        names = tuple(_PROFILE.sub("", node) for node in _NODE.findall(nodes))
        if tactic or names:
            profiles.setdefault(profile, []).append(Kernel(_PROFILE.sub("", name), names))
    return list(profiles.values())


def kernels_a_layer(kernels: list[Kernel]) -> int:
    """Return how many kernels run from the end of a decoder's first layer to the end of its second."""
    first, second = (
        next(index for index, kernel in enumerate(kernels) if kernel.computes(f"layers.{layer}.mlp.down"))
        for layer in (0, 1)
    )
    return second - first


def attention_is_one_kernel(kernels: list[Kernel], layer: int) -> bool:
    """Return whether scores, softmax and values of a layer are one kernel.

    All parts of the operator `Attention` have its name, so that only the kernel's own name tells there.
    """
    scores, shares, context = (f"layers.{layer}.attention.all.{name}" for name in _ATTENTION)
    if any(scores in kernel.nodes for kernel in kernels):
        return any(kernel.computes(scores, shares, context) for kernel in kernels)
    return sum(_FUSED in kernel.name and kernel.computes(context) for kernel in kernels) == 1


def _from_text(text: str) -> Iterator[tuple[str, str, str]]:
    for line in _NAME.finditer(text):
        tactic, metadata = _TACTIC.search(line[0]), _METADATA.search(line[0])
        yield line[1], tactic[1] if tactic else "", metadata[1] if metadata else ""


def _from_json(text: str) -> Iterator[tuple[str, str, str]]:
    layers: list[dict[str, Any]] = json.loads(text)["Layers"]
    for layer in layers:
        yield str(layer["Name"]), str(layer.get("TacticName", "unknown")), str(layer.get("Metadata", ""))
