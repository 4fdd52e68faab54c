"""Standard input, output and error of a process that was started without some of them, as with `>&-`.

The system gives their descriptors to whatever is opened next, and what is printed would go into a socket.
"""

from __future__ import annotations

import os
import sys

INPUT, OUTPUT, ERROR = range(3)


def open_standard_streams() -> None:
    """Open the null device on each standard descriptor that is closed, before anything else is opened."""
    for descriptor in (INPUT, OUTPUT, ERROR):
        if not _is_open(descriptor):
            _open_null(descriptor)
    # Where Python was started without a descriptor, its stream is None.
    if sys.stdin is None:
        sys.stdin = os.fdopen(INPUT, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(OUTPUT, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(ERROR, "w", encoding="utf-8", closefd=False)


def drop_standard_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    _open_null(OUTPUT)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_null(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == descriptor:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(opened, descriptor)
        os.close(opened)
