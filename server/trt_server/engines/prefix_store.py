"""Keys and values of prompts' shared beginnings, kept on the engine's device."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Block = TypeVar("Block")


class PrefixStore(Generic[Block]):
    """Least recently used out first, `limit_bytes` at most. Used by one thread; figures may be read by any.

    A prefix is known by its token ids themselves, never by a hash alone: no two can be taken for each other.
    max_tokens: of the longest prefix that can be kept, with the store to itself.
    """

    def __init__(self, limit_bytes: int, max_tokens: int) -> None:
        self.limit_bytes = limit_bytes
        self.max_tokens = max_tokens
        self.used_bytes = 0
        self._entries: OrderedDict[bytes, tuple[Block, int]] = OrderedDict()

    def get(self, token_ids: NDArray[np.int32]) -> Block | None:
        key = token_ids.tobytes()
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, token_ids: NDArray[np.int32], block: Block, size: int) -> None:
        """Keep a block of `size` bytes, at the cost of those that were not used for longest.

        Raises ValueError for one that can never fit.
        """
        if size > self.limit_bytes:
            raise ValueError(f"a prefix of {size} bytes in a store of {self.limit_bytes}")
        while self.used_bytes + size > self.limit_bytes:
            self.evict()
        self._entries[token_ids.tobytes()] = block, size
        self.used_bytes += size

    def evict(self) -> Block:
        """Forget the least recently used block, and return it. Raises KeyError where there is none."""
        _, (block, size) = self._entries.popitem(last=False)
        self.used_bytes -= size
        return block
