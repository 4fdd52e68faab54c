"""The hash of a plan: SHA-256 over the SHA-256 of its blocks, so that several threads can compute it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trt_server.devices.cores import usable_cores

_BLOCK_BYTES = 16 * 1024 * 1024


class PlanDigest:
    """The hash of a plan that arrives in pieces of any size."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._block = hashlib.sha256()
        self._room = _BLOCK_BYTES

    def update(self, data: Any) -> None:
        """Add the next bytes."""
        view = memoryview(data)
        while view:
            piece, view = view[: self._room], view[self._room :]
            self._block.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._end_block()

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far; nothing may be added afterwards."""
        if self._room < _BLOCK_BYTES:
            self._end_block()
        return _over(self._blocks)

    def _end_block(self) -> None:
        self._blocks.append(self._block.digest())
        self._block, self._room = hashlib.sha256(), _BLOCK_BYTES


def digest_of(plan: Path) -> str:
    """Return the hash of a file; several threads read and hash its blocks.

    Raises:
        OSError: The file cannot be read.
    """
    with plan.open("rb", buffering=0) as stream, ThreadPoolExecutor(usable_cores()) as threads:
        number, size = stream.fileno(), os.fstat(stream.fileno()).st_size

        def block(start: int) -> bytes:
            return hashlib.sha256(os.pread(number, _BLOCK_BYTES, start)).digest()

        return _over(threads.map(block, range(0, size, _BLOCK_BYTES)))


def _over(blocks: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(blocks)).hexdigest()
