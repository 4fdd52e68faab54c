"""Files that one process at a time has the lock on, and that are their owner's alone.

The kernel lets a lock go when its file is closed, or its process ends, however that comes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from trt_common.private_file import open_private


def try_lock(descriptor: int) -> bool:
    """Take the lock on an open file; return False where another process has it.

    Raises:
        OSError: the file cannot be locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path, *, waits: bool = False) -> int | None:
    """Take the lock on a file, which is made where there is none.

    Args:
        path: the file.
        waits: whether to wait until nobody else has the lock.

    Returns:
        The descriptor, which is to be closed; None where another process has the lock.

    Raises:
        OSError: the file cannot be opened or locked, or is a symbolic link.
    """
    while True:
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT)
        try:
            if waits:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            is_mine = waits or try_lock(descriptor)
            # Whoever had the lock may have removed the file: another process would lock a new one.
            if is_mine and _is_still(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_mine:
            return None


@contextlib.contextmanager
def locked(path: Path, *, waits: bool = False) -> Iterator[bool]:
    """Have the lock on a file while the context is open.

    Args:
        path: the file, which is made where there is none.
        waits: whether to wait until nobody else has the lock.

    Yields:
        Whether the lock was to be had; always with `waits`.

    Raises:
        OSError: the file cannot be opened or locked, or is a symbolic link.
    """
    descriptor = open_locked(path, waits=waits)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
