"""Cores of a machine that one worker has to itself. Ray counts cores, and gives none to anybody."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trt_common.locked_file import locked, open_locked

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
    with locked(folder / LOCK, waits=True):
        for core in sorted(os.sched_getaffinity(0)):
            if len(taken) == count:
                break
            # Kept open: it is let go when this process ends.
            if (descriptor := open_locked(folder / str(core))) is not None:
                taken[core] = descriptor
        if len(taken) == count:
            return sorted(taken)
        for descriptor in taken.values():
            os.close(descriptor)
        return None
