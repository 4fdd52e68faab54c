"""The digests of a large file's parts, kept in the cache for as long as the file stays as it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from trt_server.cache.cache_file import CacheFile
from trt_server.cache.entry import FINGERPRINTS


class KeptDigests:
    """Digests of one file, with the state that it had before they were computed."""

    def __init__(self, file: Path) -> None:
        """Note the state of this file, before it is read."""
        self._file = file
        self._state = _state(file)
        name = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:32]
        self._kept = CacheFile(FINGERPRINTS, name, suffix="json")

    def read(self) -> dict[tuple[int, int], str]:
        """Return the digests by offset and length in bytes; none where the file has changed since."""
        try:
            kept: dict[str, Any] = json.loads(self._kept.read())
            if kept["state"] != self._state:
                return {}
            return {(int(offset), int(length)): str(digest) for offset, length, digest in kept["digests"]}
        except (ValueError, KeyError, TypeError):
            return {}

    def add(self, digests: dict[tuple[int, int], str]) -> None:
        """Keep these digests too, unless the file has changed since its state was noted.

        A cache that cannot be written only costs the next start the time to compute them again.
        """
        if _state(self._file) != self._state:
            return
        every = {**self.read(), **digests}
        content = {
            "what": f"hashes of the weights in {self._file}",
            "state": self._state,
            "digests": [[offset, length, digest] for (offset, length), digest in sorted(every.items())],
        }
        self._kept.write(json.dumps(content).encode())


def _state(file: Path) -> dict[str, int]:
    """Return what a change of a file's content changes."""
    state = file.stat()
    return {
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        # The time of the last change of any kind, which no program can set back.
        "ctime_ns": state.st_ctime_ns,
        "inode": state.st_ino,
        "device": state.st_dev,
    }
