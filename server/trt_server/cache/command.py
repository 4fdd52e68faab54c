"""What `trt-server cache` does: what earlier starts left on the disk is listed and removed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trt_common.command_line.output import put_out

from trt_server.cache.entry import CacheEntry, EntryInUseError, cache_entries
from trt_server.cache.folder import cache_folder
from trt_server.command_line import PROGRAM
from trt_server.errors import StartError
from trt_server.readable import readable_bytes

DAY_SECONDS = 86400.0


class NoSuchEntryError(Exception):
    """A name that was given is that of no entry."""


def list_cache() -> str:
    """Return a table of the entries, the last used first.

    Raises:
        StartError: the cache cannot be read.
    """
    with _opened() as (folder, entries):
        return listing(folder, entries)


def remove_from_cache(names: Sequence[str], older_than: float | None) -> None:
    """Remove entries that no server uses, and print which.

    Args:
        names: of the entries; where there are none, every entry is removed.
        older_than: days; where it is not None, only what no start has used for so long is removed.

    Raises:
        NoSuchEntryError: a name is that of no entry; nothing was removed.
        StartError: an entry that was named is in use, or the cache cannot be changed.
    """
    with _opened() as (folder, entries):
        removed, kept = _remove(_chosen(names, older_than, folder, entries), folder)
    put_out(PROGRAM, "\n".join(removed))
    if kept and names:
        raise StartError("; ".join(kept))
    for line in kept:
        print(line, file=sys.stderr)


def _remove(entries: Sequence[CacheEntry], folder: Path) -> tuple[list[str], list[str]]:
    """Remove entries. Return a line on each, with their sum, and on each kept because a server uses it."""
    freed, removed, kept = 0, [], []
    for entry in entries:
        size = entry.size
        try:
            entry.remove()
        except EntryInUseError as error:
            kept.append(str(error))
            continue
        freed += size
        removed.append(f"removed {entry.name}, {readable_bytes(size)}")
    return [*removed, f"{readable_bytes(freed)} freed in {folder}"], kept


def _chosen(
    names: Sequence[str], older_than: float | None, folder: Path, entries: Sequence[CacheEntry]
) -> list[CacheEntry]:
    known = {entry.name: entry for entry in entries}
    for name in names:
        if name not in known:
            raise NoSuchEntryError(f"{name!r} is no entry of {folder}: `trt-server cache` lists them")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    if older_than is None:
        return list(entries)
    before = time.time() - older_than * DAY_SECONDS
    return [entry for entry in entries if entry.last_used < before]


@contextmanager
def _opened() -> Iterator[tuple[Path, list[CacheEntry]]]:
    folder = cache_folder()
    try:
        yield folder, cache_entries(folder)
    except OSError as error:
        raise StartError(f"the cache {folder} cannot be read or changed: {error}") from error


def listing(folder: Path, entries: Sequence[CacheEntry]) -> str:
    """Return a table of the entries, and below it the sum of their sizes.

    Args:
        folder: The cache's, whose disk is asked for its free space.
        entries: A row each, in this order.
    """
    if not entries:
        return f"{folder} holds nothing"
    rows = [("name", "what", "size", "last used", "state"), *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    total, free = sum(entry.size for entry in entries), shutil.disk_usage(folder).free
    return "\n".join(
        [
            *lines,
            f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} in {folder}, "
            f"{readable_bytes(total)}; {readable_bytes(free)} of the disk are free",
        ]
    )


def _row(entry: CacheEntry) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used))
    return entry.name, entry.what, readable_bytes(entry.size), used, entry.state
