"""Where a batch's arrays lie in one block of memory, so that each way takes one copy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

# TensorRT wants its tensors at such addresses.
ALIGNMENT = 256

Block = NDArray[np.uint8]


@dataclass(frozen=True)
class Tensor:
    """A tensor of up to `elements` values, from byte `offset` of its block on."""

    name: str
    dtype: np.dtype[Any]
    offset: int
    elements: int

    def end(self, shape: tuple[int, ...]) -> int:
        """The byte after the tensor's last, for this shape."""
        return self.offset + prod(shape) * self.dtype.itemsize

    def view(self, block: Block, shape: tuple[int, ...]) -> NDArray[Any]:
        """The tensor as it lies in `block`, not a copy. Raises ValueError for a shape it has no room for."""
        if prod(shape) > self.elements:
            raise ValueError(f"{self.name} has room for {self.elements} values, {list(shape)} has more")
        return block[self.offset : self.end(shape)].view(self.dtype).reshape(shape)


@dataclass(frozen=True)
class Layout:
    """Tensors one after the other. bytes: the size of the whole block."""

    tensors: dict[str, Tensor]
    bytes: int

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def input_layout(prompts: int, tokens: int, candidates: int, with_past: bool = False) -> Layout:
    """For the largest batch. token_ids stand last: what a shorter batch leaves free is not copied."""
    past: list[tuple[str, type[np.number[Any]], int]] = [("past_length", np.int32, 1)] if with_past else []
    return _layout(
        *past,
        ("lengths", np.int32, prompts),
        ("candidates", np.int32, prompts * candidates),
        ("token_ids", np.int32, prompts * tokens),
    )


def output_layout(prompts: int, candidates: int) -> Layout:
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
