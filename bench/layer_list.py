"""What a plan runs, as the compiler lists it: kernels in their order, and the nodes of the graph in each.

It comes from the builder as text, from the inspector as JSON; `trt-server build --layers` writes either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# A line of the builder's description, which names inputs and outputs in between.
_LINE = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), .*?Metadata:(?P<nodes>.*)$", re.MULTILINE
)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_PROFILE = re.compile(r" ?\[profile (\d+)\]")
# What computes shapes, or brings them to the device, and runs no kernel on a batch.
_NO_KERNELS = ("ShapeHostToDevice", "shape_call", "signal", "wait")


@dataclass(frozen=True)
class Kernel:
    """nodes: the graph's names of what it computes, in the compiler's order."""

    name: str
    nodes: tuple[str, ...]

    def computes(self, *nodes: str) -> bool:
        return set(nodes) <= set(self.nodes)


def read_layer_list(text: str) -> list[list[Kernel]]:
    """The kernels of each profile."""
    rows = _from_json(text) if text.lstrip().startswith("{") else _from_text(text)
    profiles: dict[int, list[Kernel]] = {}
    profile = 0
    for name, kind, nodes in rows:
        # Only some of a profile's layers bear its number; they come one profile after the other.
        if (found := _PROFILE.search(name + nodes)) is not None:
            profile = int(found[1])
        if kind not in _NO_KERNELS:
            names = tuple(_PROFILE.sub("", node) for node in _NODE.findall(nodes))
            profiles.setdefault(profile, []).append(Kernel(_PROFILE.sub("", name), names))
    return list(profiles.values())


def kernels_a_layer(kernels: list[Kernel]) -> int:
    """Of a decoder: how many run from the end of its first layer to the end of its second."""
    first, second = (
        next(index for index, kernel in enumerate(kernels) if kernel.computes(f"layers.{layer}.mlp.down"))
        for layer in (0, 1)
    )
    return second - first


def _from_text(text: str) -> Iterator[tuple[str, str, str]]:
    for line in _LINE.finditer(text):
        yield line["name"], line["kind"], line["nodes"]


def _from_json(text: str) -> Iterator[tuple[str, str, str]]:
    layers: list[dict[str, Any]] = json.loads(text)["Layers"]
    for layer in layers:
        yield str(layer["Name"]), str(layer.get("LayerType", "")), str(layer.get("Metadata", ""))
