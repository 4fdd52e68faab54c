"""Shared prefixes on the device: computed into reserved memory, and read from there without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.prefix_store import PrefixStore
from trt_server.engines.tensorrt.plan.kv_cache import KvCache, KvCacheLayout
from trt_server.engines.tensorrt.plan.profiles import LENGTH_MULTIPLE, BatchSize, rounded_up
from trt_server.engines.tensorrt.run.block_allocator import BlockAllocator
from trt_server.engines.tensorrt.run.cuda_context import CudaContext


@dataclass(frozen=True)
class PrefixBlock:
    """The place of a prefix in the reserved memory.

    Attributes:
        offset: The first byte.
        length: The number of real tokens; the block has room for the next multiple of LENGTH_MULTIPLE.
    """

    offset: int
    length: int


class DevicePrefixes:
    """The store of prefixes, its memory, and the empty KV cache for prompts without a prefix.

    An evicted block may still be read by a running batch. That is safe because all batches run on one stream:
    whatever is computed into its memory later also runs later.
    """

    def __init__(
        self, device: CudaContext, layout: KvCacheLayout, limit_bytes: int, prompt_tokens: int, prompts: int
    ) -> None:
        """Reserve the memory.

        Args:
            device: The device.
            layout: The layout of a KV cache.
            limit_bytes: The bytes for all prefixes together.
            prompt_tokens: The most tokens of a prompt.
            prompts: The most prompts of a batch.

        Raises:
            StartError: The device's memory does not suffice.
        """
        self._layout = layout
        self._base = device.allocate(limit_bytes, "shared prefixes")
        self._allocator = BlockAllocator(limit_bytes)
        self.store: PrefixStore[PrefixBlock] = PrefixStore(limit_bytes, layout.max_tokens(limit_bytes))
        # Padding is masked, but still multiplied: it must be finite numbers.
        nothing = np.zeros(layout.bytes(LENGTH_MULTIPLE), np.uint8)
        self._nothing = device.allocate(nothing.size)
        device.upload(self._nothing, nothing)
        # The graph always returns some keys and values; the first token's go here where none are needed.
        self._unwanted = device.allocate(layout.bytes(1, prompts))
        self._unwanted_prompts = prompts
        # The input "kept" is a part of these positions: its shape says how many.
        positions = np.arange(rounded_up(prompt_tokens), dtype=np.int32).view(np.uint8)
        self._positions = device.allocate(positions.size)
        device.upload(self._positions, positions)

    def none(self) -> KvCache:
        """Return the KV cache of a batch without a prefix."""
        return self._past(0, LENGTH_MULTIPLE, self._nothing, 1, None)

    def find(self, token_ids: NDArray[np.int32]) -> KvCache | None:
        """Return the KV cache of a batch that continues this prefix; None where it is not stored."""
        block = self.store.get(token_ids)
        return None if block is None else self._after(block)

    def reserve(self, token_ids: NDArray[np.int32]) -> PrefixBlock:
        """Return memory for a prefix; the least recently used prefixes are evicted to make room."""
        size = self._layout.bytes(rounded_up(len(token_ids)))
        while (offset := self._allocator.allocate(size)) is None:
            self._allocator.free(self.store.evict().offset)
        return PrefixBlock(offset, len(token_ids))

    def computing(self, block: PrefixBlock) -> KvCache:
        """Return the KV cache of the batch that computes a prefix: empty, with its outputs in the block."""
        target = self._base + block.offset
        return self._past(0, LENGTH_MULTIPLE, self._nothing, rounded_up(block.length), target)

    def keep(self, token_ids: NDArray[np.int32], block: PrefixBlock) -> KvCache:
        """Store a prefix that was computed, and return the KV cache of a batch that continues it."""
        self.store.put(token_ids, block, self._layout.bytes(rounded_up(block.length)))
        return self._after(block)

    def to_warm_up(self, size: BatchSize) -> KvCache:
        """Return a KV cache for a batch of this size, whose content does not matter."""
        past = self._nothing if size.slots == LENGTH_MULTIPLE else self._base
        return self._past(0, size.slots, past, size.kept, None if size.kept == 1 else self._base)

    def _after(self, block: PrefixBlock) -> KvCache:
        return self._past(block.length, rounded_up(block.length), self._base + block.offset, 1, None)

    def _past(self, length: int, slots: int, past: int, kept: int, target: int | None) -> KvCache:
        layout = self._layout
        if target is None:
            outputs = layout.addresses(layout.outputs, self._unwanted, kept, self._unwanted_prompts)
        else:
            outputs = layout.addresses(layout.outputs, target, kept)
        inputs = layout.addresses(layout.inputs, past, slots)
        return KvCache(
            length,
            slots,
            kept,
            layout.input_shapes(slots, kept),
            {**inputs, **outputs, "kept": self._positions},
        )
