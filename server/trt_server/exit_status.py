"""The statuses that the process ends with, and the end itself."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

# What was accepted is answered, or nothing was loaded.
DRAINED = 0
# 1 is a start that failed, 2 a bad argument.
STALLED = 3
UNDRAINED = 4


def of_signal(number: int) -> int:
    """Return the status of a process that a second signal ends, as shells have it."""
    return 128 + number


def leave(status: int) -> NoReturn:
    """End the process now.

    The interpreter would wait for threads of libraries, and for those that work for callers who have left.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Where they are full or nobody reads them, the status says what came of the work all the same.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
