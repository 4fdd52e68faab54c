"""`trt-server cache`: what earlier starts left on the disk, listed and removed."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trt_common.command_line.parser import OneLineParser

from trt_server.cache.entry import CacheEntry, EntryInUseError, cache_entries
from trt_server.cache.folder import cache_folder
from trt_server.errors import StartError
from trt_server.readable import readable_bytes

DAY_SECONDS = 86400.0
LIST, REMOVE = "list", "remove"


def parser() -> OneLineParser:
    """Return the parser of `trt-server cache`."""
    parse = OneLineParser(
        prog="trt-server cache",
        description="List or remove what servers keep on the disk from one start to the next: random "
        "weights, weights converted to another type, plans and timings of TensorRT. It lies in "
        "TRT_SERVER_CACHE, else in trt-server under XDG_CACHE_HOME, else in ~/.cache/trt-server. A start "
        "that needs an entry which was removed makes it again.",
    )
    commands = parse.add_subparsers(dest="command", metavar="list | remove")
    commands.add_parser(LIST, help="entries, the last used first; this is what `trt-server cache` does")
    remove = commands.add_parser(
        REMOVE,
        help="remove entries",
        description="Remove entries. What a running server uses, or writes, is kept; it is an error where it "
        "was named.",
    )
    remove.add_argument("names", nargs="*", metavar="NAME", help="an entry, as the list names it")
    remove.add_argument("--all", action="store_true", help="every entry that no server uses")
    remove.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="entries that no start has used for so many days"
    )
    return parse


def run(arguments: Sequence[str]) -> None:
    """Run `trt-server cache`; the process exits with status 2 where an argument is wrong.

    Args:
        arguments: What follows `cache` on the command line.

    Raises:
        StartError: The cache cannot be read or changed, or an entry that was named is in use.
    """
    parse = parser()
    asked = parse.parse_args(arguments)
    folder = cache_folder()
    try:
        entries = cache_entries(folder)
        if asked.command == REMOVE:
            _remove(parse, asked, folder, entries)
        else:
            print(listing(folder, entries))
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


def _remove(
    parse: OneLineParser, asked: argparse.Namespace, folder: Path, entries: Sequence[CacheEntry]
) -> None:
    ways = [bool(asked.names), asked.all, asked.older_than is not None]
    if sum(ways) != 1:
        parse.error("remove takes names of entries, or --all, or --older-than DAYS: give one of them")
    freed, kept = 0, []
    for entry in _chosen(parse, asked, folder, entries):
        size = entry.size
        try:
            entry.remove()
        except EntryInUseError as error:
            kept.append(str(error))
            continue
        freed += size
        print(f"removed {entry.name}, {readable_bytes(size)}")
    print(f"{readable_bytes(freed)} freed in {folder}")
    if kept and asked.names:
        raise StartError("; ".join(kept))
    for line in kept:
        print(line, file=sys.stderr)


def _chosen(
    parse: OneLineParser, asked: argparse.Namespace, folder: Path, entries: Sequence[CacheEntry]
) -> list[CacheEntry]:
    if asked.all:
        return list(entries)
    if asked.older_than is not None:
        before = time.time() - asked.older_than * DAY_SECONDS
        return [entry for entry in entries if entry.last_used < before]
    known = {entry.name: entry for entry in entries}
    for name in asked.names:
        if name not in known:
            parse.error(f"{name!r} is no entry of {folder}: `trt-server cache` lists them")
    return [known[name] for name in dict.fromkeys(asked.names)]


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days such as 30")
    return value
