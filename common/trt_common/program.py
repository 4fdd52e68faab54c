"""A program from the first thing that it does to its status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from trt_common.standard_streams import open_standard_streams

# The status of a process that SIGINT ends, as shells have it.
INTERRUPTED = 128 + signal.SIGINT


def run(program: str, load: Callable[[], Callable[[], None]]) -> NoReturn:
    """Run a program and end the process with its status; Ctrl-C ends it with 130, and without a traceback.

    Args:
        program: Its name.
        load: Imports what it is made of, and returns what is to be done.
    """
    open_standard_streams()
    main = _loaded(load)
    from trt_common.command_line.output import flush_output

    status: object = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt:
        _end_at_once()
    if status in (0, None):
        flush_output(program)
    sys.exit(status)  # type: ignore[arg-type]


def _loaded(load: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """Return what is to be done; Ctrl-C ends the process while that is imported."""
    # A module that is being imported may turn a KeyboardInterrupt into an error of its own.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    main = load()
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, before)
    return main


def _end_at_once(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)
