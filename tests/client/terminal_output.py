"""What a program has shown on a terminal."""

from __future__ import annotations

import os


def read_to_end(terminal: int) -> bytes:
    """What comes through our end of a pseudo-terminal until the other one is closed."""
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""
