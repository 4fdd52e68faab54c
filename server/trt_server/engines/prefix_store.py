"""An LRU cache of the keys and values of prompts' shared prefixes, kept on the engine's device."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Block = TypeVar("Block")


class PrefixStore(Generic[Block]):
    """The least recently used prefixes are evicted once all together would take more than `limit_bytes`.

    A prefix is looked up by its token ids themselves, not by a hash, so that no two can be mistaken for each
    other. One thread uses the store; any thread may read its figures.

    Attributes:
        limit_bytes: The bytes that all prefixes together may take.
        max_tokens: The tokens of the longest prefix that fits into an empty store.
        used_bytes: The bytes that the stored prefixes take now.
    """

    def __init__(self, limit_bytes: int, max_tokens: int) -> None:
        self.limit_bytes = limit_bytes
        self.max_tokens = max_tokens
        self.used_bytes = 0
        self._entries: OrderedDict[bytes, tuple[Block, int]] = OrderedDict()

    def get(self, token_ids: NDArray[np.int32]) -> Block | None:
        """Return the block of a prefix, int32 [tokens], and mark it as just used; None where none is."""
        key = token_ids.tobytes()
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, token_ids: NDArray[np.int32], block: Block, size: int) -> None:
        """Store a block of `size` bytes, and evict the least recently used ones to make room for it.

        Raises:
            ValueError: The block is larger than the whole store.
        """
        if size > self.limit_bytes:
            raise ValueError(f"a prefix of {size} bytes in a store of {self.limit_bytes}")
        while self.used_bytes + size > self.limit_bytes:
            self.evict()
        self._entries[token_ids.tobytes()] = block, size
        self.used_bytes += size

    def evict(self) -> Block:
        """Remove the least recently used block, and return it.

        Raises:
            KeyError: The store is empty.
        """
        _, (block, size) = self._entries.popitem(last=False)
        self.used_bytes -= size
        return block
