"""Shared prefixes on the device: computed into one reserved memory, and read from there without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.prefix_store import PrefixStore
from trt_server.engines.tensorrt.arena import Arena
from trt_server.engines.tensorrt.cuda_context import CudaContext
from trt_server.engines.tensorrt.past import Past, PastLayout
from trt_server.engines.tensorrt.profiles import LENGTH_MULTIPLE, BatchSize, rounded_up


@dataclass(frozen=True)
class PrefixBlock:
    """offset: in the arena. length: real tokens; the block holds the next multiple of LENGTH_MULTIPLE."""

    offset: int
    length: int


class DevicePrefixes:
    """The store, its memory, and what a plan with a past is given where there is none.

    A block that is put out may still be read by a batch in flight: all batches run on one stream, so whatever
    is computed into its memory later comes later there too.
    """

    def __init__(
        self, device: CudaContext, layout: PastLayout, limit_bytes: int, prompt_tokens: int, prompts: int
    ) -> None:
        """limit_bytes: for all prefixes together. prompt_tokens, prompts: the most of a batch.

        Raises StartError where the device's memory does not suffice.
        """
        self._layout = layout
        self._base = device.allocate(limit_bytes, "shared prefixes")
        self._arena = Arena(limit_bytes)
        self.store: PrefixStore[PrefixBlock] = PrefixStore(limit_bytes, layout.max_tokens(limit_bytes))
        # Slots that are never looked at still go through products: they must be numbers.
        nothing = np.zeros(layout.bytes(LENGTH_MULTIPLE), np.uint8)
        self._nothing = device.allocate(nothing.size)
        device.upload(self._nothing, nothing)
        # The first token's keys and values have to go somewhere when none are wanted.
        self._unwanted = device.allocate(layout.bytes(1, prompts))
        self._unwanted_prompts = prompts
        # All positions: how many are kept is a matter of the tensor's shape.
        positions = np.arange(rounded_up(prompt_tokens), dtype=np.int32).view(np.uint8)
        self._positions = device.allocate(positions.size)
        device.upload(self._positions, positions)

    def none(self) -> Past:
        """Of a batch that begins with its prompts."""
        return self._past(0, LENGTH_MULTIPLE, self._nothing, 1, None)

    def find(self, token_ids: NDArray[np.int32]) -> Past | None:
        """The past of a batch after this prefix; None where it has to be computed."""
        block = self.store.get(token_ids)
        return None if block is None else self._after(block)

    def reserve(self, token_ids: NDArray[np.int32]) -> PrefixBlock:
        """Memory for a prefix, at the cost of those that were not used for longest."""
        size = self._layout.bytes(rounded_up(len(token_ids)))
        while (offset := self._arena.take(size)) is None:
            self._arena.give_back(self.store.evict().offset)
        return PrefixBlock(offset, len(token_ids))

    def computing(self, block: PrefixBlock) -> Past:
        """The past of the batch that computes a prefix: none, and its keys and values go into the block."""
        target = self._base + block.offset
        return self._past(0, LENGTH_MULTIPLE, self._nothing, rounded_up(block.length), target)

    def keep(self, token_ids: NDArray[np.int32], block: PrefixBlock) -> Past:
        """Once it is computed. Returns the past of a batch after it."""
        self.store.put(token_ids, block, self._layout.bytes(rounded_up(block.length)))
        return self._after(block)

    def to_warm_up(self, size: BatchSize) -> Past:
        """A past for a batch of this size; what it holds is not looked at."""
        past = self._nothing if size.slots == LENGTH_MULTIPLE else self._base
        return self._past(0, size.slots, past, size.kept, None if size.kept == 1 else self._base)

    def _after(self, block: PrefixBlock) -> Past:
        return self._past(block.length, rounded_up(block.length), self._base + block.offset, 1, None)

    def _past(self, length: int, slots: int, past: int, kept: int, target: int | None) -> Past:
        layout = self._layout
        if target is None:
            outputs = layout.addresses(layout.outputs, self._unwanted, kept, self._unwanted_prompts)
        else:
            outputs = layout.addresses(layout.outputs, target, kept)
        inputs = layout.addresses(layout.inputs, past, slots)
        return Past(
            length,
            slots,
            kept,
            layout.input_shapes(slots, kept),
            {**inputs, **outputs, "kept": self._positions},
        )
