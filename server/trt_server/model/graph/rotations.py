"""Rotary position embeddings as ONNX nodes (Su et al. 2021, "RoFormer", arXiv 2104.09864)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from trt_common.model.geometry import Geometry

from trt_server.model.graph.node_list import NodeList
from trt_server.model.graph.rope import rope_tables


@dataclass(frozen=True)
class Angles:
    """Names of cosine and sine of some tokens' positions, [rows, tokens, head_size / 2] in float32."""

    cosine: str
    sine: str


@dataclass(frozen=True)
class Rotation:
    """Names of what heads are multiplied with, [rows, 1, tokens, head_size] in the type of products."""

    cosine: str
    sine: str


class Rotations:
    """Adds what rotates the heads of queries and keys.

    A head x becomes x · cosine + (x with its halves swapped) · sine, where the first half of the sine is
    negated, so that rotating needs no negation. With `rotate_half` the swapped half is negated instead, as
    transformers writes it: OpenVINO knows that form, and computes it in one pass.
    """

    def __init__(self, geometry: Geometry, nodes: NodeList, positions: int, rotate_half: bool) -> None:
        """Add the tables.

        Args:
            geometry: The sizes of the model.
            nodes: The graph that is built.
            positions: The number of positions that there are.
            rotate_half: See above.
        """
        self._nodes = nodes
        self._half = geometry.head_size // 2
        self._rotate_half = rotate_half
        for name, table in zip(("cosine", "sine"), rope_tables(geometry, positions), strict=True):
            nodes.constant(f"{name}.table", table, np.float32)

    def angles(self, positions: str) -> Angles:
        """Add cosine and sine of these positions, int32 [rows, tokens]."""
        cosine, sine = (
            self._nodes.add("Gather", [f"{name}.table", positions], name) for name in ("cosine", "sine")
        )
        return Angles(cosine, sine)

    def rotation(self, angles: Angles, part: str, factor: float) -> Rotation:
        """Add the rotation by these angles, times a factor.

        Args:
            angles: Of the tokens' positions.
            part: What the names of its nodes begin with.
            factor: What heads are multiplied with besides.
        """
        nodes = self._nodes
        with nodes.scope(part):
            scale = nodes.constant(f"{part}.scale", factor, np.float32)
            cosine = nodes.add("Mul", [angles.cosine, scale], "cosine.scaled")
            sine = nodes.add("Mul", [angles.sine, scale], "sine.scaled")
            first = sine if self._rotate_half else nodes.add("Neg", [sine], "sine.minus")
            return Rotation(
                self._for_all_heads([cosine, cosine], "cosine"), self._for_all_heads([first, sine], "sine")
            )

    def _for_all_heads(self, halves: list[str], name: str) -> str:
        """Add the axis of the heads once, because TensorRT's parser would do it again in every layer."""
        nodes = self._nodes
        both = nodes.add("Concat", halves, f"{name}.both", axis=-1)
        typed = nodes.add("Cast", [both], f"{name}.typed", to=nodes.onnx_type)
        return nodes.add("Unsqueeze", [typed, nodes.sizes(1)], name)

    def rotated(self, heads: str, rotation: Rotation) -> str:
        """Add the rotation of heads, [rows, heads, tokens, head_size]."""
        nodes = self._nodes
        first, second = self._halves(heads)
        if self._rotate_half:
            second = nodes.add("Mul", [second, nodes.constant("minus_one", -1, np.float32)], "minus")
        swapped = nodes.add("Concat", [second, first], "swapped", axis=-1)
        along = nodes.add("Mul", [heads, rotation.cosine], "along")
        across = nodes.add("Mul", [swapped, rotation.sine], "across")
        return nodes.add("Add", [along, across], "rotated")

    def _halves(self, heads: str) -> tuple[str, str]:
        if not self._rotate_half:
            return self._nodes.halves(heads, "halves")
        # OpenVINO's pattern has the halves' sizes, and counts its axis from the first.
        sizes = self._nodes.sizes(self._half, self._half)
        first, second = self._nodes.add_with_outputs("Split", [heads, sizes], "halves", [".0", ".1"], axis=3)
        return first, second
