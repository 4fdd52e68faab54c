"""Causal attention with rotary positions as ONNX nodes: what all layers share, and each layer's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import TensorProto

from trt_server.model.geometry import Geometry
from trt_server.model.node_list import NodeList
from trt_server.model.rope import rope_tables

# The first with the operator `Attention`.
_ATTENTION_OPSET = 23
# A position that no query looks at.
_NOWHERE = 2**30
# Far below any score, and still a number when it is added to one.
_MASKED = {np.float32: -3.0e38, np.float16: -6.0e4}


@dataclass(frozen=True)
class _Block:
    """Queries from position `start` up to `end`, and the keys up to there; int32 [1] each, by name.

    scope: what its nodes' names begin with. start, end: None where one block is all there is.
    """

    scope: str
    start: str | None = None
    end: str | None = None


class Attention:
    """Adds a layer's attention to the graph; its shapes, rotations and masks are computed once a run.

    With several query blocks each takes the keys up to its own end only: of n blocks' scores the (n - 1) / 2n
    that no query may look at are never computed, and one block's scores exist at a time. Answers are the
    same: what is left out has a share of 0.

    With a past, all prompts go on where past_length [1] says, and each layer's keys and values begin with
    those of past_inputs. Slots of the past from there on are padding and are never looked at.

    Where the opset has `Attention`, it takes the place of both products and the softmax between them. Heads
    go in as they are, and a mask only where a window or a past asks for one. The operator's own attribute for
    the softmax's type is left out: TensorRT's parser refuses it, and decides for itself.
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
        """Raises ValueError for query blocks with a past, where each would copy nearly all of its keys, and
        with `Attention`, which takes all queries."""
        self._is_one_operator = nodes.opset >= _ATTENTION_OPSET
        if query_blocks > 1 and with_past:
            raise ValueError("queries that follow a past are few: take them in one block")
        if query_blocks > 1 and self._is_one_operator:
            raise ValueError("the operator `Attention` takes all queries: take them in one block")
        self._geometry = geometry
        self._nodes = nodes
        # The operator wants its mask in the type of its queries.
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
            if self._needs_mask(window)
        }

    def add_layer(self, hidden: str, layer: int) -> str:
        """[prompts × length, hidden_size] to the same."""
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
        """What the queries draw from the values, [prompts, length, query_heads, head_size]."""
        if self._is_one_operator:
            return self._context_of_operator(query, key, value, *self._masks.get(window, []))
        key, value = self._spread(key, "key"), self._spread(value, "value")
        contexts = [
            self._context(query, key, value, block, mask)
            for block, mask in zip(self._blocks, self._masks[window], strict=True)
        ]
        return contexts[0] if len(contexts) == 1 else self._nodes.add("Concat", contexts, "context", axis=1)

    # Once a run.

    def _add_shapes(self) -> None:
        geometry, nodes = self._geometry, self._nodes
        for name, heads in (("query", geometry.query_heads), ("key_value", geometry.key_value_heads)):
            sizes = nodes.sizes(heads, geometry.head_size)
            nodes.add("Concat", ["token_ids.shape", sizes], f"{name}.shape", axis=0)

    def _add_positions(self) -> None:
        """position [length]; with a past also key.position [past + length]."""
        nodes = self._nodes
        if not self._with_past:
            nodes.add("Range", [nodes.int32(0), "length", nodes.int32(1)], "position")
            return
        along = nodes.add("Range", [nodes.int32(0), "length", nodes.int32(1)], "along")
        nodes.add("Add", ["past_length", along], "position")
        shape = nodes.add("Shape", ["past.0.key"], "past.shape")
        size = nodes.add("Gather", [shape, nodes.sizes(2)], "past.size", axis=0)
        vector = nodes.add("Cast", [size], "past.vector", to=TensorProto.INT32)
        past = nodes.add("Squeeze", [vector, nodes.sizes(0)], "past")
        slot = nodes.add("Range", [nodes.int32(0), past, nodes.int32(1)], "past.slot")
        there = nodes.add("Less", [slot, "past_length"], "past.there")
        slots = nodes.add("Where", [there, slot, nodes.int32(_NOWHERE)], "past.position")
        nodes.add("Concat", [slots, "position"], "key.position", axis=0)
        nodes.add("Concat", ["prompts.size", nodes.sizes(1, 1, 1)], "past.each_prompt", axis=0)

    def _add_rotations(self, positions: int) -> None:
        """Cosine and sine for this run's positions, [1, 1, length, head_size].

        The half of a head that goes in with a minus sign gets it from the sine. Queries have a pair of their
        own, with the attention's 1 / √head_size in it: scaling then costs nothing.
        """
        nodes = self._nodes
        for name, table in zip(("cosine", "sine"), rope_tables(self._geometry, positions), strict=True):
            nodes.add("Gather", [nodes.constant(f"{name}.table", table, np.float32), "position"], name)
        for part, factor in (("query", 1 / math.sqrt(self._geometry.head_size)), ("key", 1.0)):
            with nodes.scope(part):
                scale = nodes.constant(f"{part}.scale", factor, np.float32)
                cosine = nodes.add("Mul", ["cosine", scale], "cosine.scaled")
                sine = nodes.add("Mul", ["sine", scale], "sine.scaled")
                minus_sine = nodes.add("Neg", [sine], "sine.minus")
                for name, halves in (("cosine", [cosine, cosine]), ("sine", [minus_sine, sine])):
                    both = nodes.add("Concat", halves, f"{name}.both", axis=-1)
                    typed = nodes.add("Cast", [both], f"{name}.typed", to=nodes.onnx_type)
                    self._add_as_heads(typed, name)

    def _add_blocks(self, count: int) -> list[_Block]:
        if count == 1:
            return [_Block("all")]
        ends = [self._add_boundary(number, count) for number in range(count + 1)]
        return [_Block(f"blocks.{number}", start, end) for number, (start, end) in enumerate(pairwise(ends))]

    def _add_boundary(self, number: int, count: int) -> str:
        """The position where block `number` of `count` begins, length · number / count."""
        with self._nodes.scope(f"boundaries.{number}"):
            product = self._nodes.add("Mul", ["length.vector", self._nodes.int32(number)], "product")
            return self._nodes.add("Div", [product, self._nodes.int32(count)], "position")

    def _needs_mask(self, window: int | None) -> bool:
        """`Attention` knows what is causal where queries and keys begin together, and nothing of windows."""
        return not self._is_one_operator or self._with_past or window is not None

    def _add_mask(self, window: int | None, block: _Block) -> str:
        """Added to a block's scores, of their type: 0 where a query sees a key. [1, 1, queries, keys]."""
        nodes = self._nodes
        with nodes.scope(f"mask.{window or 'full'}.{block.scope}"):
            query = self._queries_of(block, "position", 0, "query.position")
            query = nodes.add("Unsqueeze", [query, nodes.sizes(1)], "query")
            positions = "key.position" if self._with_past else "position"
            key = self._keys_of(block, positions, 0, "key.position")
            key = nodes.add("Unsqueeze", [key, nodes.sizes(0)], "key")
            visible = nodes.add("LessOrEqual", [key, query], "causal")
            if window is not None:
                distance = nodes.add("Sub", [query, key], "distance")
                near = nodes.add("Less", [distance, nodes.int32(window)], "near")
                visible = nodes.add("And", [visible, near], "visible")
            shown = nodes.constant("shown", 0, self._score_type)
            masked = nodes.constant("masked", _MASKED[self._score_type], self._score_type)
            return self._add_as_heads(nodes.add("Where", [visible, shown, masked], "rows"), "bias")

    def _add_as_heads(self, values: str, name: str) -> str:
        """Of the rank of what it meets in every layer: TensorRT's parser would reshape it there each time."""
        return self._nodes.add("Unsqueeze", [values, self._nodes.sizes(0, 1)], name)

    # Each layer.

    def _heads(self, hidden: str, weights: str, name: str, shape: str) -> str:
        """Project to heads: [prompts, heads, length, head_size]."""
        with self._nodes.scope(name):
            projected = self._nodes.linear(hidden, weights, "projected")
            heads = self._nodes.add("Reshape", [projected, shape], "split")
            return self._nodes.add("Transpose", [heads], "heads", perm=[0, 2, 1, 3])

    def _rotate(self, heads: str, name: str) -> str:
        """Rotary position embedding: x · cosine + (x's halves swapped) · sine."""
        nodes = self._nodes
        with nodes.scope(f"{name}.rope"):
            first, second = nodes.halves(heads, "halves")
            swapped = nodes.add("Concat", [second, first], "swapped", axis=-1)
            along = nodes.add("Mul", [heads, f"{name}.cosine"], "along")
            across = nodes.add("Mul", [swapped, f"{name}.sine"], "across")
            return nodes.add("Add", [along, across], "rotated")

    def _append(self, heads: str, past: str) -> str:
        """The past's heads with the new ones after them; of the new ones, those that are kept go out too."""
        nodes, kind = self._nodes, past.rpartition(".")[2]
        with nodes.scope("kept"):
            nodes.add("Gather", [heads, "kept"], kind, axis=2)
        with nodes.scope(f"{kind}.past"):
            each = nodes.add("Expand", [past, "past.each_prompt"], "each")
            return nodes.add("Concat", [each, heads], "appended", axis=2)

    def _spread(self, heads: str, name: str) -> str:
        """Give every query head its key or value head: [prompts, query_heads, length, head_size]."""
        geometry, nodes = self._geometry, self._nodes
        if geometry.query_heads == geometry.key_value_heads:
            return heads
        copies = geometry.query_heads // geometry.key_value_heads
        with nodes.scope(f"{name}.spread"):
            grouped = nodes.add("Unsqueeze", [heads, nodes.sizes(2)], "grouped")
            expanded = nodes.add("Expand", [grouped, nodes.sizes(1, 1, copies, 1, 1)], "expanded")
            # 0: as it was; -1: what is left.
            shape = nodes.sizes(0, geometry.query_heads, -1, geometry.head_size)
            return nodes.add("Reshape", [expanded, shape], "heads")

    def _context(self, query: str, key: str, value: str, block: _Block, mask: str) -> str:
        """What a block's queries draw from the values, [prompts, queries, query_heads, head_size]."""
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

    def _context_of_operator(self, query: str, key: str, value: str, mask: str | None = None) -> str:
        """The same of all queries through `Attention`; queries are scaled already."""
        nodes = self._nodes
        with nodes.scope("all"):
            context = nodes.add(
                "Attention",
                [query, key, value, *([mask] if mask else [])],
                "context",
                is_causal=0 if mask else 1,
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
