"""The layout of a batch's arrays in one block of memory, so that each direction takes a single copy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# TensorRT requires tensors at addresses that are multiples of this many bytes.
ALIGNMENT = 256

Block = NDArray[np.uint8]


@dataclass(frozen=True)
class Tensor:
    """A tensor of up to `elements` values that begins at byte `offset` of its block."""

    name: str
    dtype: np.dtype[Any]
    offset: int
    elements: int

    def end(self, shape: tuple[int, ...]) -> int:
        """Return the offset after the last byte of the tensor, where it has this shape."""
        return self.offset + prod(shape) * self.dtype.itemsize

    def view(self, block: Block, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the tensor in `block` as an array that shares its memory.

        Raises:
            ValueError: The shape has more elements than the tensor has room for.
        """
        if prod(shape) > self.elements:
            raise ValueError(f"{self.name} has room for {self.elements} values, {list(shape)} has more")
        return block[self.offset : self.end(shape)].view(self.dtype).reshape(shape)


@dataclass(frozen=True)
class Layout:
    """Tensors one after the other in a block of `bytes` bytes."""

    tensors: dict[str, Tensor]
    bytes: int

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def input_layout(prompts: int, tokens: int, candidates: int, with_past: bool = False) -> Layout:
    """Return the layout of the largest batch's inputs.

    token_ids are last, so that a shorter batch copies fewer bytes.
    """
    past: list[tuple[str, type[np.number[Any]], int]] = [("past_length", np.int32, 1)] if with_past else []
    return _layout(
        *past,
        ("lengths", np.int32, prompts),
        ("candidates", np.int32, prompts * candidates),
        ("token_ids", np.int32, prompts * tokens),
    )


def output_layout(prompts: int, candidates: int) -> Layout:
    """Return the layout of the largest batch's outputs."""
    return _layout(
        ("top_token", np.int32, prompts),
        ("top_logprob", np.float32, prompts),
        ("candidate_logprobs", np.float32, prompts * candidates),
    )


def _layout(*parts: tuple[str, type[np.number[Any]], int]) -> Layout:
    tensors, end = {}, 0
    for name, kind, elements in parts:
        dtype: np.dtype[Any] = np.dtype(kind)
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        tensors[name] = Tensor(name, dtype, offset, elements)
        end = offset + elements * dtype.itemsize
    return Layout(tensors, end)
