"""Standard output and standard error."""

from __future__ import annotations

import io
import sys


def take_any_text() -> None:
    """Make both streams write a question mark for each character that their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
