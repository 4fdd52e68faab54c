"""The cache's folder: converted weights, random weights and plans are made once and kept there."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trt_common.locked_file import locked, try_lock
from trt_common.private_file import make_private_folder, open_private

from trt_server.errors import StartError
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)

# A folder that is being filled, or was when its process was killed.
PARTIAL = ".partial"
LOCK = ".lock"
# A file in each folder that says in words what the folder holds. Its time is that of the last use. A process
# that uses the folder holds a shared lock on this file until the process ends.
ABOUT = "about.json"
# The variable of the environment that names the cache's folder.
VARIABLE = "TRT_SERVER_CACHE"
_MAKE_ROOM = "remove what no server uses (trt-server cache), or set TRT_SERVER_CACHE to another folder"

_in_use: dict[Path, IO[str]] = {}


def cache_folder() -> Path:
    """Return TRT_SERVER_CACHE, else trt-server in XDG_CACHE_HOME, else ~/.cache/trt-server."""
    if own := os.environ.get(VARIABLE):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "trt-server"
    return Path.home() / ".cache" / "trt-server"


def make_cache_folder(folder: Path) -> None:
    """Make a folder of the cache, and the cache's own, so that only their owner may enter them.

    Raises:
        OSError: They cannot be made.
    """
    make_private_folder(cache_folder())
    make_private_folder(folder)


def cached_folder(
    kind: str, key: str, what: str, size: int, make: Callable[[Path], None], is_whole: Callable[[Path], bool]
) -> Path:
    """Return the folder `kind`/`key` of the cache, after filling it where it is not there or not whole.

    The folder is made under another name and renamed when it is finished, under a lock that other processes
    wait for, so that a folder of this name is complete. It counts as in use, and `trt-server cache` does not
    remove it, until this process ends.

    Args:
        kind: The folder of the cache that it lies in.
        key: Its name there.
        what: What it holds, in words.
        size: The bytes it will take. The disk is asked for them before anything is written.
        make: Fills the folder that it is given, which is empty.
        is_whole: Whether a folder that is there can be used as it is.

    Raises:
        StartError: The folder cannot be written, or the disk has no room for it.
    """
    parent = cache_folder() / kind
    try:
        make_cache_folder(parent)
        with locked(parent / f"{key}{LOCK}", waits=True):
            folder = parent / key
            if not (folder.is_dir() and is_whole(folder)):
                _make_again(folder, what, size, make)
            _use(folder, what)
            return folder
    except OSError as error:
        raise _not_writable(parent, error) from error


def check_room(kind: str, key: str, what: str, size: int) -> bool:
    """Check that the folder `kind`/`key` of the cache is there, or that the disk has room for it.

    Nothing is made, and whether a folder that is there is whole is not looked at.

    Args:
        kind: The folder of the cache that it lies in.
        key: Its name there.
        what: What it holds, in words.
        size: The bytes it will take.

    Returns:
        Whether it is still to be made.

    Raises:
        StartError: There is no room, or the cache cannot be read.
    """
    folder = cache_folder() / kind / key
    try:
        if folder.is_dir():
            return False
        there = next(parent for parent in folder.parents if parent.exists())
    except OSError as error:
        raise _not_writable(folder.parent, error) from error
    check_disk(what, size, there, _MAKE_ROOM)
    return True


def _not_writable(folder: Path, error: OSError) -> StartError:
    return StartError(
        f"the cache {folder} cannot be written: {error}; set TRT_SERVER_CACHE to another folder"
    )


def check_disk(what: str, size: int, folder: Path, remedy: str) -> None:
    """Check that the disk has room.

    Args:
        what: What is to be written, in words.
        size: How many bytes it will take.
        folder: A folder on the disk.
        remedy: What the user can do where there is no room.

    Raises:
        StartError: There is no room.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise StartError(
            f"{what}: {readable_bytes(size)} of disk are needed and {readable_bytes(free)} are free in "
            f"{folder}: {remedy}"
        )


def _make_again(folder: Path, what: str, size: int, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(f"{folder.name}{PARTIAL}")
    for left_over in (folder, partial):
        if left_over.exists():
            shutil.rmtree(left_over)
    check_disk(what, size, folder.parent, _MAKE_ROOM)
    log.info("writing %s to %s, about %s", what, folder, readable_bytes(size))
    partial.mkdir(mode=0o700)
    try:
        make(partial)
    except BaseException:
        # A full disk gets its space back.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)


def _use(folder: Path, what: str) -> None:
    path, text = folder / ABOUT, json.dumps({"what": what})
    stream = _open(path, "a+")
    fcntl.flock(stream, fcntl.LOCK_SH)
    stream.seek(0)
    if stream.read() != text:
        stream.truncate(0)
        stream.write(text)
        stream.flush()
    os.utime(stream.fileno())
    if (before := _in_use.pop(path, None)) is not None:
        before.close()
    _in_use[path] = stream


@contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Try to hold the lock on a file; yields whether it was free, which it is too where there is no file."""
    try:
        stream = _open(path, "r+")
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    with stream:
        yield try_lock(stream.fileno())


def _open(path: Path, mode: str) -> IO[str]:
    """Open a file of the cache, unless it is a symbolic link, which this program does not make.

    Raises:
        OSError: It is one, or it cannot be opened.
    """
    return open(path, mode, encoding="utf-8", opener=open_private)
