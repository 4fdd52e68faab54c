"""Files that are made once and kept: converted and random weights, plans."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trt_server.errors import StartError


def cache_folder() -> Path:
    """TRT_SERVER_CACHE; else trt-server in XDG_CACHE_HOME; else ~/.cache/trt-server."""
    if own := os.environ.get("TRT_SERVER_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "trt-server"
    return Path.home() / ".cache" / "trt-server"


def cached_folder(
    kind: str, key: str, size: int, make: Callable[[Path], None], is_whole: Callable[[Path], bool]
) -> Path:
    """The folder `kind`/`key` of the cache, filled by `make` where it is not there or no longer whole.

    It is made under another name and renamed when it is finished, under a lock that other processes wait for:
    what bears its name is complete. size: bytes it will take, asked of the disk before anything is written.
    Raises StartError when it cannot be written.
    """
    parent = cache_folder() / kind
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent / f"{key}.lock"):
            folder = parent / key
            if not (folder.is_dir() and is_whole(folder)):
                _make_again(folder, size, make)
            return folder
    except OSError as error:
        raise StartError(
            f"the cache {parent} cannot be written: {error}; set TRT_SERVER_CACHE to another folder"
        ) from error


def _make_again(folder: Path, size: int, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    for left_over in (folder, partial):
        if left_over.exists():
            shutil.rmtree(left_over)
    free = shutil.disk_usage(folder.parent).free
    if free < size:
        raise StartError(
            f"{folder.parent} has {free:,} bytes free and {size:,} are needed: remove folders there that no "
            "server uses, or set TRT_SERVER_CACHE to another"
        )
    partial.mkdir()
    make(partial)
    partial.rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
