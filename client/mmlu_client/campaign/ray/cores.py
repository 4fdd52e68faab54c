"""Cores of a machine that one worker has to itself. Ray counts cores, and gives none to anybody."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

LOCK = "lock"


def claim_cores(count: int) -> list[int] | None:
    """Take so many cores that no other worker of this user has, until this process ends.

    Returns:
        Their numbers; None where fewer are free.

    Raises:
        OSError: the files that say whose they are cannot be opened.
    """
    folder = Path(tempfile.gettempdir(), f"mmlu-client-cores-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    taken: dict[int, int] = {}
    lock = _open(folder / LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for core in sorted(os.sched_getaffinity(0)):
            if len(taken) == count:
                break
            descriptor = _open(folder / str(core))
            try:
                # The kernel lets it go when this process ends, however that comes.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[core] = descriptor
            except OSError:
                os.close(descriptor)
        if len(taken) == count:
            return sorted(taken)
        for descriptor in taken.values():
            os.close(descriptor)
        return None
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
