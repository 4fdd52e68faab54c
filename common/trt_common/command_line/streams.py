"""Standard output and error, which take any text, whatever the terminal can show."""

from __future__ import annotations

import io
import sys


def take_any_text() -> None:
    """From now on, characters that the streams' encoding does not have become question marks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
