"""Causal attention with rotary position embeddings as ONNX nodes: those of all layers, and each layer's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from trt_common.model.geometry import Geometry

from trt_server.model.graph.masks import Masks, MasksByWindow
from trt_server.model.graph.node_list import NodeList
from trt_server.model.graph.queries import Block, Keys, Queries, all_queries, asked_queries, split_queries
from trt_server.model.graph.rotations import Rotation, Rotations

# The first opset with the operator `Attention`.
_ATTENTION_OPSET = 23
# A position after every query's, which no query attends to.
_NOWHERE = 2**30


@dataclass(frozen=True)
class AttentionForm:
    """How attention is written as nodes; its answers are the same but for rounding.

    Attributes:
        query_blocks: In how many blocks each layer takes its queries. It has to be 1 with a past and with
            the operator `Attention`.
        softmax_in_float32: Whether scores and their softmax are float32 even where products are float16.
        with_past: Whether the graph takes a KV cache.
        asked_only: The last layer computes for the tokens of the input `asked` alone.
        for_openvino: As OpenVINO computes it fastest, with `query_blocks` 1: rotations in the form that it
            knows as one operator; in two blocks of queries, of which the input `first_block` says how many
            are in the first, whose keys end where it ends; values that are kept taken where products end,
            because OpenVINO computes in float32 from the last product on to an output.
    """

    query_blocks: int = 1
    softmax_in_float32: bool = True
    with_past: bool = False
    asked_only: bool = False
    for_openvino: bool = False


@dataclass(frozen=True)
class _Layers:
    """What layers that compute for the same tokens share."""

    queries: Queries
    rotation: Rotation
    masks: MasksByWindow


class Attention:
    """Adds each layer's attention to the graph; shapes, rotations and masks are computed once for all layers.

    With several query blocks, each block takes only the keys up to its own end, and only one block's scores
    are in memory at a time. The result is the same, because masked scores have a share of 0.

    Keys and values are computed for all tokens in every layer. What follows from them in the last layer is
    needed only where something is asked for, and with `asked_only` computed only there.

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

    def __init__(self, geometry: Geometry, nodes: NodeList, positions: int, form: AttentionForm) -> None:
        """Add the nodes that all layers share.

        Args:
            geometry: The sizes of the model.
            nodes: The graph that is built.
            positions: The number of positions that rotations are tabulated for.
            form: How it is written.

        Raises:
            ValueError: There are several query blocks with a past, where each would copy nearly all of its
                keys.
        """
        self._is_one_operator = nodes.opset >= _ATTENTION_OPSET
        if form.query_blocks > 1 and form.with_past:
            raise ValueError("queries that follow a past are few: take them in one block")
        self._geometry = geometry
        self._nodes = nodes
        self._form = form
        # The operator requires a mask of the same type as its queries.
        widened = form.softmax_in_float32 and not self._is_one_operator
        in_float32 = widened or nodes.onnx_type == TensorProto.FLOAT
        self._score_type: type[np.floating[Any]] = np.float32 if in_float32 else np.float16
        self._rotations = Rotations(geometry, nodes, positions, form.for_openvino)
        self._add_shapes()
        windows = geometry.sliding_windows
        past = self._add_past_sizes() if form.with_past else None
        if form.for_openvino:
            every = split_queries(nodes, "query.shape", past)
        else:
            every = all_queries(nodes, "query.shape", form.query_blocks)
        masks = Masks(nodes, self._add_keys(every.index), self._score_type)
        angles = self._rotations.angles("positions")
        rotation = self._rotations.rotation(angles, "query", 1 / math.sqrt(geometry.head_size))
        self._key_rotation = self._rotations.rotation(angles, "key", 1.0)
        self._every = _Layers(every, rotation, masks.of(every, windows[:-1] if form.asked_only else windows))
        self._last = self._add_asked(masks) if form.asked_only else self._every

    def _add_asked(self, masks: Masks) -> _Layers:
        geometry, nodes = self._geometry, self._nodes
        with nodes.scope("asked"):
            size = geometry.query_heads, geometry.head_size
            queries = asked_queries(nodes, *size, self._form.query_blocks)
            angles = self._rotations.angles(queries.position)
            rotation = self._rotations.rotation(angles, "query", 1 / math.sqrt(geometry.head_size))
            return _Layers(queries, rotation, masks.of(queries, geometry.sliding_windows[-1:]))

    def _shared(self, layer: int) -> _Layers:
        return self._last if layer == self._geometry.layers - 1 else self._every

    def queries(self, layer: int) -> Queries:
        """Return the tokens that a layer computes for, beside its keys and values."""
        return self._shared(layer).queries

    def add_layer(self, hidden: str, layer: int) -> str:
        """Add one layer's attention, from [rows × length, hidden_size] to [rows × queries, hidden_size].

        Args:
            hidden: The name of the normalized hidden states.
            layer: The number of the layer.

        Returns:
            The name of the output.
        """
        geometry, nodes, shared = self._geometry, self._nodes, self._shared(layer)
        queries = shared.queries
        weights = f"model.layers.{layer}.self_attn"
        asked = queries.of_rows(nodes, hidden, "asked")
        query = self._heads(asked, f"{weights}.q_proj", "query", queries.heads_shape)
        key = self._heads(hidden, f"{weights}.k_proj", "key", "key_value.shape")
        value = self._heads(hidden, f"{weights}.v_proj", "value", "key_value.shape")
        if geometry.query_key_norm:
            query = nodes.rms_norm(query, f"{weights}.q_norm.weight", geometry.rms_epsilon, "query.norm")
            key = nodes.rms_norm(key, f"{weights}.k_norm.weight", geometry.rms_epsilon, "key.norm")
        query = self._rotated(query, shared.rotation, "query")
        key = self._rotated(key, self._key_rotation, "key")
        if self._form.with_past:
            self._keep(key, value, f"layers.{layer}.attention.value.projected")
            key, value = self._append(key, f"past.{layer}.key"), self._append(value, f"past.{layer}.value")
        context = self._attend(query, key, value, shared, geometry.sliding_windows[layer])
        context = nodes.add("Reshape", [context, nodes.sizes(-1, geometry.query_size)], "context.rows")
        return nodes.linear(context, f"{weights}.o_proj", "output")

    def _attend(self, query: str, key: str, value: str, shared: _Layers, window: int | None) -> str:
        """Return the attention's output, [rows, queries, query_heads, head_size]."""
        masks = shared.masks[window]
        if self._is_one_operator:
            return self._context_of_operator(query, key, value, *masks)
        key, value = self._spread(key, "key"), self._spread(value, "value")
        contexts = [
            self._context(query, key, value, block, mask)
            for block, mask in zip(shared.queries.blocks, masks, strict=True)
        ]
        return contexts[0] if len(contexts) == 1 else self._nodes.add("Concat", contexts, "context", axis=1)

    # Nodes that all layers share.

    def _add_shapes(self) -> None:
        geometry, nodes = self._geometry, self._nodes
        for name, heads in (("query", geometry.query_heads), ("key_value", geometry.key_value_heads)):
            sizes = nodes.sizes(heads, geometry.head_size)
            nodes.add("Concat", ["token_ids.shape", sizes], f"{name}.shape", axis=0)
        if self._form.for_openvino and self._form.with_past:
            width = nodes.sizes(geometry.key_value_size)
            nodes.add("Concat", ["token_ids.shape", width], "value.rows.shape", axis=0)

    def _add_past_sizes(self) -> str:
        """Add how many keys the past has, padding included: `past.size`, int64 [1], and int32 [1]."""
        nodes = self._nodes
        shape = nodes.add("Shape", ["past.0.key"], "past.shape")
        size = nodes.add("Gather", [shape, nodes.sizes(2)], "past.size", axis=0)
        return nodes.add("Cast", [size], "past.vector", to=TensorProto.INT32)

    def _add_keys(self, along: str) -> Keys:
        """Add what masks need to know of the keys; without a past they are those of the inputs.

        Args:
            along: The name of an int32 [length], each token's place in its row.
        """
        nodes = self._nodes
        if not self._form.with_past:
            return Keys(along, "visible_until", "positions")
        past = nodes.add("Squeeze", ["past.vector", nodes.sizes(0)], "past")
        slot = nodes.add("Range", [nodes.int32(0), past, nodes.int32(1)], "past.slot")
        there = nodes.add("Less", [slot, "past_length"], "past.there")
        index = nodes.add("Where", [there, nodes.int32(-1), nodes.int32(_NOWHERE)], "past.index")
        key_index = nodes.add("Concat", [index, along], "key.index", axis=0)
        each = nodes.add("Concat", ["rows.size", "past.size"], "past.each_row", axis=0)
        until = nodes.add("Expand", [nodes.int32(_NOWHERE), each], "past.until")
        key_until = nodes.add("Concat", [until, "visible_until"], "key.until", axis=1)
        position = nodes.add("Expand", [slot, each], "past.position")
        key_position = nodes.add("Concat", [position, "positions"], "key.position", axis=1)
        nodes.add("Concat", ["rows.size", nodes.sizes(1, 1, 1)], "past.each", axis=0)
        return Keys(key_index, key_until, key_position)

    # Nodes of one layer.

    def _heads(self, hidden: str, weights: str, name: str, shape: str) -> str:
        """Project hidden states to heads, [rows, heads, length, head_size]."""
        with self._nodes.scope(name):
            projected = self._nodes.linear(hidden, weights, "projected")
            heads = self._nodes.add("Reshape", [projected, shape], "split")
            return self._nodes.add("Transpose", [heads], "heads", perm=[0, 2, 1, 3])

    def _rotated(self, heads: str, rotation: Rotation, name: str) -> str:
        with self._nodes.scope(f"{name}.rope"):
            return self._rotations.rotated(heads, rotation)

    def _keep(self, key: str, value: str, projected_value: str) -> None:
        """Add the outputs of the new keys and values that `kept` names."""
        geometry, nodes = self._geometry, self._nodes
        with nodes.scope("kept"):
            nodes.add("Gather", [key, "kept"], "key", axis=2)
            if not self._form.for_openvino:
                nodes.add("Gather", [value, "kept"], "value", axis=2)
                return
            rows = nodes.add("Reshape", [projected_value, "value.rows.shape"], "value.rows")
            kept = nodes.add("Gather", [rows, "kept"], "value.kept", axis=1)
            shape = nodes.sizes(0, 0, geometry.key_value_heads, geometry.head_size)
            heads = nodes.add("Reshape", [kept, shape], "value.split")
            nodes.add("Transpose", [heads], "value", perm=[0, 2, 1, 3])

    def _append(self, heads: str, past: str) -> str:
        """Append the new heads to the past's."""
        nodes, kind = self._nodes, past.rpartition(".")[2]
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

    def _context(self, query: str, key: str, value: str, block: Block, mask: str) -> str:
        """Return a block's attention output, [rows, queries, query_heads, head_size]."""
        nodes = self._nodes
        with nodes.scope(block.scope):
            query = block.queries_of(nodes, query, 2, "query")
            key = block.keys_of(nodes, key, 2, "key")
            value = block.keys_of(nodes, value, 2, "value")
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
