"""Entries of the cache: what each holds, its size, when it was last used, and whether it may be removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trt_common.private_file import PART

from trt_server.cache.folder import ABOUT, LOCK, PARTIAL, locked_at_once
from trt_server.errors import StartError

# Folders of folders, and folders of files. Nothing else that lies in the cache's folder is touched.
FOLDERS = {"dummy": "random weights", "weights": "converted weights", "plans": "a plan"}
TIMINGS, FINGERPRINTS = "timings", "fingerprints"
FILES = {TIMINGS: "timings of kernels, for later builds", FINGERPRINTS: "hashes of weights, for later starts"}
IN_USE, BEING_WRITTEN, UNFINISHED = "in use", "being written", "unfinished"


class EntryInUseError(StartError):
    """The entry cannot be removed, because a process uses or writes it."""


@dataclass(frozen=True)
class CacheEntry:
    """One folder or file of the cache.

    Attributes:
        kind: The folder of the cache that it lies in.
        path: Where it is.
        size: In bytes.
        last_used: In seconds since the epoch.
    """

    kind: str
    path: Path
    size: int
    last_used: float

    @property
    def name(self) -> str:
        """The name by which `trt-server cache` lists and removes it."""
        return f"{self.kind}/{self.path.name}"

    @property
    def what(self) -> str:
        """What the entry holds, in words."""
        if self.kind in FILES:
            return FILES[self.kind]
        try:
            return str(json.loads((self.path / ABOUT).read_text(encoding="utf-8"))["what"])
        except (OSError, ValueError, KeyError, TypeError):
            return FOLDERS[self.kind]

    @property
    def state(self) -> str:
        """Whether it is in use, being written or unfinished, in words; empty where it is whole and unused."""
        if self._is_partial:
            return UNFINISHED if self._is_free(self._lock) else BEING_WRITTEN
        return "" if self._is_free(self.path / ABOUT) else IN_USE

    def remove(self) -> None:
        """Remove it from the disk.

        Raises:
            EntryInUseError: A process uses it or writes it.
            OSError: The disk refuses.
        """
        with locked_at_once(self._lock) as nobody_writes, locked_at_once(self.path / ABOUT) as nobody_uses:
            if not nobody_writes or not nobody_uses:
                why = "a running server uses it" if nobody_writes else "a server is writing or checking it"
                raise EntryInUseError(f"{self.name} is kept: {why}; stop that first")
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)
            self._lock.unlink(missing_ok=True)

    @property
    def _is_partial(self) -> bool:
        return self.path.suffix == (PART if self.kind in FILES else PARTIAL)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f"{self.path.name.removesuffix(PARTIAL)}{LOCK}")

    @staticmethod
    def _is_free(path: Path) -> bool:
        with locked_at_once(path) as free:
            return free


def cache_entries(folder: Path) -> list[CacheEntry]:
    """Return the entries of the cache `folder`, the last used first."""
    return sorted(_entries(folder), key=lambda entry: entry.last_used, reverse=True)


def _entries(folder: Path) -> Iterator[CacheEntry]:
    for kind in (*FOLDERS, *FILES):
        for path in (folder / kind).glob("*"):
            # One that was finished or removed meanwhile is not there any more.
            with suppress(FileNotFoundError):
                if path.is_file() if kind in FILES else path.is_dir():
                    yield _entry(kind, path)


def _entry(kind: str, path: Path) -> CacheEntry:
    size = sum(file.lstat().st_size for file in (path, *path.rglob("*")) if file.is_file())
    about = path / ABOUT
    return CacheEntry(kind, path, size, (about if about.is_file() else path).stat().st_mtime)
