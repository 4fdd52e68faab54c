"""The layout of a batch's arrays in one block of memory, so that each direction takes a single copy.

It is made for each batch's own size, so that a small batch copies few bytes. The layout of the largest batch
says how large the block has to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.tensorrt.plan.kv_cache import ALIGNMENT
from trt_server.engines.tensorrt.plan.profiles import BatchSize, Shape

Block = NDArray[np.uint8]


@dataclass(frozen=True)
class Tensor:
    """A tensor that begins at byte `offset` of its block."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    offset: int

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.offset + prod(self.shape) * self.dtype.itemsize

    def view(self, block: Block) -> NDArray[Any]:
        """Return the tensor in `block` as an array that shares its memory."""
        return block[self.offset : self.end].view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Layout:
    """Tensors one after the other in a block of `bytes` bytes."""

    tensors: dict[str, Tensor]
    bytes: int

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def addresses(self, base: int) -> dict[str, int]:
        """Return the address of each tensor in the block at `base`, by name."""
        return {tensor.name: base + tensor.offset for tensor in self.tensors.values()}


def input_layout(size: BatchSize) -> Layout:
    """Return the layout of a batch's inputs, without keys and values."""
    past = {"past_length": (1,)} if size.slots else {}
    return _layout((name, np.int32, shape) for name, shape in {**past, **size.input_shapes}.items())


def output_layout(size: BatchSize, top_tokens: int) -> Layout:
    """Return the layout of a batch's outputs, without keys and values.

    The `top_tokens` most likely tokens of each position are last: where nobody asks for them, they are not
    copied.
    """
    scored, most = (size.scored,), (size.scored, top_tokens)
    return _layout(
        [
            ("target_logprobs", np.float32, (size.targets,)),
            ("top_token", np.int32, scored),
            ("top_logprob", np.float32, scored),
            ("top_tokens", np.int32, most),
            ("top_logprobs", np.float32, most),
        ]
    )


def _layout(parts: Iterable[tuple[str, type[np.number[Any]], Shape]]) -> Layout:
    tensors, end = {}, 0
    for name, kind, shape in parts:
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        tensors[name] = Tensor(name, np.dtype(kind), shape, offset)
        end = tensors[name].end
    return Layout(tensors, end)
