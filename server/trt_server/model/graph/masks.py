"""Which keys a query sees, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from trt_server.model.graph.node_list import NodeList
from trt_server.model.graph.queries import Block, Keys, Queries

# Added to a masked score: far below any score, and the sum is still finite.
_MASKED = {np.float32: -3.0e38, np.float16: -6.0e4}

# For each window, a mask for each block.
MasksByWindow = dict[int | None, list[str]]


class Masks:
    """Adds masks, [rows, 1, queries, keys], that are added to scores: 0 where a query sees a key.

    A query sees a key that is not after it in the row, whose `until` is not before the query, and which the
    layer's window reaches back to.
    """

    def __init__(self, nodes: NodeList, keys: Keys, score_type: type[np.floating[Any]]) -> None:
        self._nodes = nodes
        self._keys = keys
        self._score_type = score_type

    def of(self, queries: Queries, windows: Iterable[int | None]) -> MasksByWindow:
        """Add one for each window and block; each window once."""
        return {
            window: [self._mask(queries, window, block) for block in queries.blocks]
            for window in dict.fromkeys(windows)
        }

    def _mask(self, queries: Queries, window: int | None, block: Block) -> str:
        nodes, keys = self._nodes, self._keys
        with nodes.scope(f"mask.{window or 'full'}.{block.scope}"):
            # [queries, 1], or [rows, queries, 1] where rows have different ones.
            axis = 0 if queries.tokens is None else 1
            query = block.queries_of(nodes, queries.index, axis, "query.index")
            query = nodes.add("Unsqueeze", [query, nodes.sizes(axis + 1)], "query")
            index = block.keys_of(nodes, keys.index, 0, "key.index")
            before = nodes.add("LessOrEqual", [index, query], "before")
            until = block.keys_of(nodes, keys.until, 1, "key.until")
            until = nodes.add("Unsqueeze", [until, nodes.sizes(1)], "until")
            visible = nodes.add("And", [before, nodes.add("LessOrEqual", [query, until], "open")], "visible")
            if window is not None:
                near = self._near(queries, window, block)
                visible = nodes.add("And", [visible, near], "visible.near")
            shown = nodes.constant("shown", 0, self._score_type)
            masked = nodes.constant("masked", _MASKED[self._score_type], self._score_type)
            rows = nodes.add("Where", [visible, shown, masked], "rows")
            # The axis of the heads: TensorRT's parser would add it again in every layer.
            return nodes.add("Unsqueeze", [rows, nodes.sizes(1)], "bias")

    def _near(self, queries: Queries, window: int, block: Block) -> str:
        """Add whether a query's window reaches back to a key, [rows, queries, keys]."""
        nodes = self._nodes
        query = block.queries_of(nodes, queries.position, 1, "query.position")
        query = nodes.add("Unsqueeze", [query, nodes.sizes(2)], "query.position.each")
        key = block.keys_of(nodes, self._keys.position, 1, "key.position")
        key = nodes.add("Unsqueeze", [key, nodes.sizes(1)], "key.position.each")
        distance = nodes.add("Sub", [query, key], "distance")
        return nodes.add("Less", [distance, nodes.int32(window)], "near")
