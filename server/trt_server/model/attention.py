"""Causal attention with rotary position embeddings as ONNX nodes: those of all layers, and each layer's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import TensorProto
from trt_common.model.geometry import Geometry

from trt_server.model.node_list import NodeList
from trt_server.model.rope import rope_tables

# The first opset with the operator `Attention`.
_ATTENTION_OPSET = 23
# A position after every query's, which no query attends to.
_NOWHERE = 2**30
# Added to a masked score: far below any score, and the sum is still finite.
_MASKED = {np.float32: -3.0e38, np.float16: -6.0e4}


@dataclass(frozen=True)
class _Block:
    """The queries from position `start` up to `end`, and the keys from 0 up to `end`.

    Attributes:
        scope: What its nodes' names begin with.
        start: The name of an int32 [1]; None where there is only one block.
        end: The name of an int32 [1]; None where there is only one block.
    """

    scope: str
    start: str | None = None
    end: str | None = None


class Attention:
    """Adds each layer's attention to the graph; shapes, rotations and masks are computed once for all layers.

    With several query blocks, each block takes only the keys up to its own end. With n blocks the (n - 1) /
    2n of the scores that causal attention masks anyway are never computed, and only one block's scores are in
    memory at a time. The result is the same, because masked scores have a share of 0.

    A row of tokens may hold several continuations of one prompt, one after the other. A query sees a key that
    is not after it in the row, and whose visible_until is not before the query. `positions` says where a
    token is in its own text, which rotations and windows go by.

    With a past, all rows continue after the same past_length [1] tokens, which every token sees: each layer's
    keys and values begin with those of past_inputs. Positions of the past from past_length on are padding,
    and are masked.

    Where the opset has the operator `Attention`, it replaces both products and the softmax between them. It
    takes grouped heads as they are. The attribute for the type of its softmax is left out, because TensorRT's
    parser refuses it and chooses the type itself.
    """

    def __init__(
        self,
        geometry: Geometry,
        nodes: NodeList,
        positions: int,
        query_blocks: int,
        softmax_in_float32: bool,
        with_past: bool,
    ) -> None:
        """Add the nodes that all layers share.

        Args:
            geometry: The sizes of the model.
            nodes: The graph that is built.
            positions: The number of positions that rotations are tabulated for.
            query_blocks: The number of blocks that queries are taken in.
            softmax_in_float32: Whether scores and their softmax are float32 even where products are float16.
            with_past: Whether the graph takes a KV cache.

        Raises:
            ValueError: There are several query blocks with a past, where each would copy nearly all of its
                keys, or with `Attention`, which takes all queries.
        """
        self._is_one_operator = nodes.opset >= _ATTENTION_OPSET
        if query_blocks > 1 and with_past:
            raise ValueError("queries that follow a past are few: take them in one block")
        if query_blocks > 1 and self._is_one_operator:
            raise ValueError("the operator `Attention` takes all queries: take them in one block")
        self._geometry = geometry
        self._nodes = nodes
        # The operator requires a mask of the same type as its queries.
        widened = softmax_in_float32 and not self._is_one_operator
        in_float32 = widened or nodes.onnx_type == TensorProto.FLOAT
        self._score_type: type[np.floating[Any]] = np.float32 if in_float32 else np.float16
        self._with_past = with_past
        self._add_shapes()
        self._add_positions()
        self._add_rotations(positions)
        self._blocks = self._add_blocks(query_blocks)
        self._masks = {
            window: [self._add_mask(window, block) for block in self._blocks]
            for window in dict.fromkeys(geometry.sliding_windows)
        }

    def add_layer(self, hidden: str, layer: int) -> str:
        """Add one layer's attention, from [rows × length, hidden_size] to the same shape.

        Args:
            hidden: The name of the normalized hidden states.
            layer: The number of the layer.

        Returns:
            The name of the output.
        """
        geometry, nodes = self._geometry, self._nodes
        weights, window = f"model.layers.{layer}.self_attn", geometry.sliding_windows[layer]
        query = self._heads(hidden, f"{weights}.q_proj", "query", "query.shape")
        key = self._heads(hidden, f"{weights}.k_proj", "key", "key_value.shape")
        value = self._heads(hidden, f"{weights}.v_proj", "value", "key_value.shape")
        if geometry.query_key_norm:
            query = nodes.rms_norm(query, f"{weights}.q_norm.weight", geometry.rms_epsilon, "query.norm")
            key = nodes.rms_norm(key, f"{weights}.k_norm.weight", geometry.rms_epsilon, "key.norm")
        query, key = self._rotate(query, "query"), self._rotate(key, "key")
        if self._with_past:
            key, value = self._append(key, f"past.{layer}.key"), self._append(value, f"past.{layer}.value")
        context = self._attend(query, key, value, window)
        context = nodes.add("Reshape", [context, nodes.sizes(-1, geometry.query_size)], "context.rows")
        return nodes.linear(context, f"{weights}.o_proj", "output")

    def _attend(self, query: str, key: str, value: str, window: int | None) -> str:
        """Return the attention's output, [rows, length, query_heads, head_size]."""
        if self._is_one_operator:
            return self._context_of_operator(query, key, value, *self._masks[window])
        key, value = self._spread(key, "key"), self._spread(value, "value")
        contexts = [
            self._context(query, key, value, block, mask)
            for block, mask in zip(self._blocks, self._masks[window], strict=True)
        ]
        return contexts[0] if len(contexts) == 1 else self._nodes.add("Concat", contexts, "context", axis=1)

    # Nodes that all layers share.

    def _add_shapes(self) -> None:
        geometry, nodes = self._geometry, self._nodes
        for name, heads in (("query", geometry.query_heads), ("key_value", geometry.key_value_heads)):
            sizes = nodes.sizes(heads, geometry.head_size)
            nodes.add("Concat", ["token_ids.shape", sizes], f"{name}.shape", axis=0)

    def _add_positions(self) -> None:
        """Add what masks are made of.

        `query.index` [length] is a query's place in its row and `key.index` [keys] that of a key, -1 for one
        of the past; `key.until` [rows, keys] is the last place that sees a key, `key.position` [rows, keys]
        its place in its text. Without a past, the keys' are those of the inputs.
        """
        nodes = self._nodes
        along = nodes.add("Range", [nodes.int32(0), "length", nodes.int32(1)], "query.index")
        if not self._with_past:
            self._key_index, self._key_until, self._key_position = along, "visible_until", "positions"
            return
        shape = nodes.add("Shape", ["past.0.key"], "past.shape")
        size = nodes.add("Gather", [shape, nodes.sizes(2)], "past.size", axis=0)
        vector = nodes.add("Cast", [size], "past.vector", to=TensorProto.INT32)
        past = nodes.add("Squeeze", [vector, nodes.sizes(0)], "past")
        slot = nodes.add("Range", [nodes.int32(0), past, nodes.int32(1)], "past.slot")
        there = nodes.add("Less", [slot, "past_length"], "past.there")
        index = nodes.add("Where", [there, nodes.int32(-1), nodes.int32(_NOWHERE)], "past.index")
        self._key_index = nodes.add("Concat", [index, along], "key.index", axis=0)
        each = nodes.add("Concat", ["rows.size", size], "past.each_row", axis=0)
        until = nodes.add("Expand", [nodes.int32(_NOWHERE), each], "past.until")
        self._key_until = nodes.add("Concat", [until, "visible_until"], "key.until", axis=1)
        position = nodes.add("Expand", [slot, each], "past.position")
        self._key_position = nodes.add("Concat", [position, "positions"], "key.position", axis=1)
        nodes.add("Concat", ["rows.size", nodes.sizes(1, 1, 1)], "past.each", axis=0)

    def _add_rotations(self, positions: int) -> None:
        """Add cosine and sine of this run's positions, [rows, 1, length, head_size].

        The first half of the sine is negated here, so that rotating a head needs no negation. Queries have a
        pair of their own that includes attention's factor 1 / √head_size, so that scaling costs nothing.
        """
        nodes = self._nodes
        for name, table in zip(("cosine", "sine"), rope_tables(self._geometry, positions), strict=True):
            nodes.add("Gather", [nodes.constant(f"{name}.table", table, np.float32), "positions"], name)
        for part, factor in (("query", 1 / math.sqrt(self._geometry.head_size)), ("key", 1.0)):
            with nodes.scope(part):
                scale = nodes.constant(f"{part}.scale", factor, np.float32)
                cosine = nodes.add("Mul", ["cosine", scale], "cosine.scaled")
                sine = nodes.add("Mul", ["sine", scale], "sine.scaled")
                minus_sine = nodes.add("Neg", [sine], "sine.minus")
                for name, halves in (("cosine", [cosine, cosine]), ("sine", [minus_sine, sine])):
                    both = nodes.add("Concat", halves, f"{name}.both", axis=-1)
                    typed = nodes.add("Cast", [both], f"{name}.typed", to=nodes.onnx_type)
                    self._for_all_heads(typed, name)

    def _add_blocks(self, count: int) -> list[_Block]:
        if count == 1:
            return [_Block("all")]
        ends = [self._add_boundary(number, count) for number in range(count + 1)]
        return [_Block(f"blocks.{number}", start, end) for number, (start, end) in enumerate(pairwise(ends))]

    def _add_boundary(self, number: int, count: int) -> str:
        """Add the position where block `number` of `count` begins, length · number / count."""
        with self._nodes.scope(f"boundaries.{number}"):
            product = self._nodes.add("Mul", ["length.vector", self._nodes.int32(number)], "product")
            return self._nodes.add("Div", [product, self._nodes.int32(count)], "position")

    def _add_mask(self, window: int | None, block: _Block) -> str:
        """Add a block's mask, [rows, 1, queries, keys] of the scores' type: 0 where a query sees a key.

        It is added to the scores.
        """
        nodes = self._nodes
        with nodes.scope(f"mask.{window or 'full'}.{block.scope}"):
            query = self._queries_of(block, "query.index", 0, "query.index")
            query = nodes.add("Unsqueeze", [query, nodes.sizes(1)], "query")
            index = self._keys_of(block, self._key_index, 0, "key.index")
            before = nodes.add("LessOrEqual", [index, query], "before")
            until = self._keys_of(block, self._key_until, 1, "key.until")
            until = nodes.add("Unsqueeze", [until, nodes.sizes(1)], "until")
            visible = nodes.add("And", [before, nodes.add("LessOrEqual", [query, until], "open")], "visible")
            if window is not None:
                visible = nodes.add("And", [visible, self._near(window, block)], "visible.near")
            shown = nodes.constant("shown", 0, self._score_type)
            masked = nodes.constant("masked", _MASKED[self._score_type], self._score_type)
            return self._for_all_heads(nodes.add("Where", [visible, shown, masked], "rows"), "bias")

    def _near(self, window: int, block: _Block) -> str:
        """Add whether a query's window reaches back to a key, [rows, queries, keys]."""
        nodes = self._nodes
        query = self._queries_of(block, "positions", 1, "query.position")
        query = nodes.add("Unsqueeze", [query, nodes.sizes(2)], "query.position.each")
        key = self._keys_of(block, self._key_position, 1, "key.position")
        key = nodes.add("Unsqueeze", [key, nodes.sizes(1)], "key.position.each")
        distance = nodes.add("Sub", [query, key], "distance")
        return nodes.add("Less", [distance, nodes.int32(window)], "near")

    def _for_all_heads(self, values: str, name: str) -> str:
        """Add the axis of the heads once, because TensorRT's parser would do it again in every layer."""
        return self._nodes.add("Unsqueeze", [values, self._nodes.sizes(1)], name)

    # Nodes of one layer.

    def _heads(self, hidden: str, weights: str, name: str, shape: str) -> str:
        """Project hidden states to heads, [rows, heads, length, head_size]."""
        with self._nodes.scope(name):
            projected = self._nodes.linear(hidden, weights, "projected")
            heads = self._nodes.add("Reshape", [projected, shape], "split")
            return self._nodes.add("Transpose", [heads], "heads", perm=[0, 2, 1, 3])

    def _rotate(self, heads: str, name: str) -> str:
        """Apply the rotary position embedding: x · cosine + (x with its halves swapped) · sine."""
        nodes = self._nodes
        with nodes.scope(f"{name}.rope"):
            first, second = nodes.halves(heads, "halves")
            swapped = nodes.add("Concat", [second, first], "swapped", axis=-1)
            along = nodes.add("Mul", [heads, f"{name}.cosine"], "along")
            across = nodes.add("Mul", [swapped, f"{name}.sine"], "across")
            return nodes.add("Add", [along, across], "rotated")

    def _append(self, heads: str, past: str) -> str:
        """Append the new heads to the past's, and add the output of the new heads that `kept` names."""
        nodes, kind = self._nodes, past.rpartition(".")[2]
        with nodes.scope("kept"):
            nodes.add("Gather", [heads, "kept"], kind, axis=2)
        with nodes.scope(f"{kind}.past"):
            each = nodes.add("Expand", [past, "past.each"], "each")
            return nodes.add("Concat", [each, heads], "appended", axis=2)

    def _spread(self, heads: str, name: str) -> str:
        """Repeat each key or value head for its query heads, [rows, query_heads, length, head_size]."""
        geometry, nodes = self._geometry, self._nodes
        if geometry.query_heads == geometry.key_value_heads:
            return heads
        copies = geometry.query_heads // geometry.key_value_heads
        with nodes.scope(f"{name}.spread"):
            grouped = nodes.add("Unsqueeze", [heads, nodes.sizes(2)], "grouped")
            expanded = nodes.add("Expand", [grouped, nodes.sizes(1, 1, copies, 1, 1)], "expanded")
            # In Reshape 0 means the size as it was, and -1 the size that is left.
            shape = nodes.sizes(0, geometry.query_heads, -1, geometry.head_size)
            return nodes.add("Reshape", [expanded, shape], "heads")

    def _context(self, query: str, key: str, value: str, block: _Block, mask: str) -> str:
        """Return a block's attention output, [rows, queries, query_heads, head_size]."""
        nodes = self._nodes
        with nodes.scope(block.scope):
            query = self._queries_of(block, query, 2, "query")
            key = self._keys_of(block, key, 2, "key")
            value = self._keys_of(block, value, 2, "value")
            key = nodes.add("Transpose", [key], "key.transposed", perm=[0, 1, 3, 2])
            scores = nodes.add("MatMul", [query, key], "scores")
            if self._score_type is np.float32:
                scores = nodes.float32(scores)
            scores = nodes.add("Add", [scores, mask], "scores.masked")
            shares = nodes.add("Softmax", [scores], "shares", axis=-1)
            if self._score_type is np.float32:
                shares = nodes.computed(shares)
            context = nodes.add("MatMul", [shares, value], "context")
            return nodes.add("Transpose", [context], "context.transposed", perm=[0, 2, 1, 3])

    def _context_of_operator(self, query: str, key: str, value: str, mask: str) -> str:
        """Return the output of all queries, which are scaled already, through the operator `Attention`."""
        nodes = self._nodes
        with nodes.scope("all"):
            context = nodes.add(
                "Attention",
                [query, key, value, mask],
                "context",
                scale=1.0,
            )
            return nodes.add("Transpose", [context], "context.transposed", perm=[0, 2, 1, 3])

    def _queries_of(self, block: _Block, values: str, axis: int, name: str) -> str:
        return self._slice(values, block.start, block.end, axis, name)

    def _keys_of(self, block: _Block, values: str, axis: int, name: str) -> str:
        start = None if block.end is None else self._nodes.int32s(0)
        return self._slice(values, start, block.end, axis, name)

    def _slice(self, values: str, start: str | None, end: str | None, axis: int, name: str) -> str:
        if start is None or end is None:
            return values
        return self._nodes.add("Slice", [values, start, end, self._nodes.int32s(axis)], name)
