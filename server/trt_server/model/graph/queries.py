"""The tokens that a layer's attention computes for: their blocks, rotations and masks, as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from onnx import TensorProto

from trt_server.model.graph.node_list import NodeList


@dataclass(frozen=True)
class Keys:
    """Names of what masks are made of, for every key that a run has.

    Attributes:
        index: int32 [keys], a key's place in its row, -1 for one of the past.
        until: int32 [rows, keys], the last place that sees a key.
        position: int32 [rows, keys], a key's place in its text.
    """

    index: str
    until: str
    position: str


@dataclass(frozen=True)
class Block:
    """The queries from number `start` up to `end`, and the keys from 0 up to `key_end`.

    Attributes:
        scope: What its nodes' names begin with.
        start: The name of an int32 [1]; None where there is only one block.
        end: The name of an int32 [1]; None where there is only one block.
        key_end: The name of an int32 [1]; None: all keys.
    """

    scope: str
    start: str | None = None
    end: str | None = None
    key_end: str | None = None

    def queries_of(self, nodes: NodeList, values: str, axis: int, name: str) -> str:
        """Add the slice of `values` that belongs to this block's queries."""
        if self.start is None or self.end is None:
            return values
        return nodes.add("Slice", [values, self.start, self.end, nodes.int32s(axis)], name)

    def keys_of(self, nodes: NodeList, values: str, axis: int, name: str) -> str:
        """Add the slice of `values` that belongs to this block's keys."""
        if self.key_end is None:
            return values
        return nodes.add("Slice", [values, nodes.int32s(0), self.key_end, nodes.int32s(axis)], name)


@dataclass(frozen=True)
class Queries:
    """Names of what one layer's attention needs to know of its queries.

    Attributes:
        index: int32 [queries], or [rows, queries] where rows have different ones: places in the row.
        position: int32 [rows, queries], places in the text.
        heads_shape: int64 [4], rows, queries, query heads, head size.
        tokens: int32 [rows × queries], the queries counted through all rows; None: they are all tokens.
        blocks: In which they are taken.
    """

    index: str
    position: str
    heads_shape: str
    tokens: str | None
    blocks: Sequence[Block]

    def of_rows(self, nodes: NodeList, values: str, name: str) -> str:
        """Add the rows of [rows × length, width] that are these queries', [rows × queries, width]."""
        return values if self.tokens is None else nodes.add("Gather", [values, self.tokens], name)


def all_queries(nodes: NodeList, heads_shape: str, count: int) -> Queries:
    """Add the queries of a layer that computes for all tokens.

    Args:
        nodes: The graph, which has `length`, `length.vector` and the inputs of every run.
        heads_shape: The name of an int64 [4].
        count: How many blocks; with n of them the (n - 1) / 2n of the scores that causal attention masks
            anyway are never computed, because each takes the keys up to its own end alone.
    """
    index = nodes.add("Range", [nodes.int32(0), "length", nodes.int32(1)], "query.index")
    ends = _boundaries(nodes, "boundaries", "length.vector", count)
    blocks = [
        Block(f"blocks.{number}", start, end, key_end=end)
        for number, (start, end) in enumerate(pairwise(ends))
    ]
    return Queries(index, "positions", heads_shape, None, blocks or [Block("all")])


def split_queries(nodes: NodeList, heads_shape: str, past: str | None) -> Queries:
    """Add the queries of a layer that computes for all tokens in two blocks, which a run chooses.

    The input `first_block`, int32 [1], is how many queries are in the first. With 0 it costs nothing, as the
    second takes keys and values as they are.

    Args:
        nodes: The graph, which has `length` and the inputs of every run.
        heads_shape: The name of an int64 [4].
        past: The name of an int32 [1], how many keys there are before the first query's own; None: none.
    """
    index = nodes.add("Range", [nodes.int32(0), "length", nodes.int32(1)], "query.index")
    end = "first_block"
    key_end = end if past is None else nodes.add("Add", [past, end], "first_block.keys")
    first = Block("blocks.0", nodes.int32s(0), end, key_end)
    return Queries(index, "positions", heads_shape, None, [first, Block("blocks.1", end, "length.vector")])


def asked_queries(nodes: NodeList, heads: int, head_size: int, count: int) -> Queries:
    """Add the queries of a layer that computes for the tokens of the input `asked` alone.

    Args:
        nodes: The graph, which has `length` and the inputs of every run.
        heads: Query heads.
        head_size: Their size.
        count: How many blocks; each takes all keys, so that they bound memory alone.
    """
    tokens = nodes.add("Reshape", ["asked", nodes.sizes(-1)], "tokens")
    index = nodes.add("Mod", ["asked", "length"], "index")
    flat = nodes.add("Reshape", ["positions", nodes.sizes(-1)], "positions.flat")
    position = nodes.add("Gather", [flat, "asked"], "position")
    shape = nodes.add("Shape", ["asked"], "shape")
    heads_shape = nodes.add("Concat", [shape, nodes.sizes(heads, head_size)], "heads_shape", axis=0)
    ends: list[str] = []
    if count > 1:
        size = nodes.add("Gather", [shape, nodes.sizes(1)], "size", axis=0)
        length = nodes.add("Cast", [size], "length", to=TensorProto.INT32)
        ends = _boundaries(nodes, "boundaries", length, count)
    blocks = [Block(f"blocks.{number}", start, end) for number, (start, end) in enumerate(pairwise(ends))]
    return Queries(index, position, heads_shape, tokens, blocks or [Block("all")])


def _boundaries(nodes: NodeList, scope: str, length: str, count: int) -> list[str]:
    """Add where blocks begin and end, length · number / count; nothing for one block."""
    if count == 1:
        return []
    return [_boundary(nodes, f"{scope}.{number}", length, number, count) for number in range(count + 1)]


def _boundary(nodes: NodeList, scope: str, length: str, number: int, count: int) -> str:
    with nodes.scope(scope):
        product = nodes.add("Mul", [length, nodes.int32(number)], "product")
        return nodes.add("Div", [product, nodes.int32(count)], "position")
