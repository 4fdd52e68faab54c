"""Standard error, which may be closed or full before the run is over: `2>&1 | head`, a log on a full disk."""

from __future__ import annotations

import io
import sys
from typing import Any


class _LossyFile(io.FileIO):
    """A file that drops what cannot be written."""

    def write(self, data: Any) -> int:
        """Write the data, and report all of it as written."""
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def outlive_standard_error() -> None:
    """From now on drop what cannot be written to standard error, instead of failing."""
    stream = sys.stderr
    # A program that calls this one may have replaced sys.stderr by something that is no file.
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BufferedWriter | io.FileIO):
        lossy = io.BufferedWriter(_LossyFile(stream.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(lossy, stream.encoding, stream.errors, line_buffering=True)
