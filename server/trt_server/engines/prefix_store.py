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
    """

    def __init__(self, limit_bytes: int, bytes_per_token: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes_per_token = bytes_per_token
        self.used_bytes = 0
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    def fits(self, tokens: int) -> bool:
        """Whether a prefix of so many tokens can be kept at all."""
        return tokens * self.bytes_per_token <= self.limit_bytes

    def get(self, token_ids: NDArray[np.int32]) -> Block | None:
        key = token_ids.tobytes()
        if key not in self._blocks:
            return None
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def put(self, token_ids: NDArray[np.int32], block: Block) -> None:
        """Keep a block that fits, at the cost of those that were not used for longest."""
        size = self._size(token_ids.tobytes())
        while self._blocks and self.used_bytes + size > self.limit_bytes:
            key, _ = self._blocks.popitem(last=False)
            self.used_bytes -= self._size(key)
        self._blocks[token_ids.tobytes()] = block
        self.used_bytes += size

    def clear(self) -> None:
        self._blocks.clear()
        self.used_bytes = 0

    def _size(self, key: bytes) -> int:
        return len(key) // np.dtype(np.int32).itemsize * self.bytes_per_token
