"""Standard error, which may be gone before the run is over: `2>&1 | head`, a full disk under a log."""

from __future__ import annotations

import io
import sys
from typing import Any


class _LossyFile(io.FileIO):
    """Loses what cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return memoryview(data).nbytes


def outlive_standard_error() -> None:
    """From now on, what cannot be written there is lost, and nothing else."""
    stream = sys.stderr
    # What else may stand there, in a program that calls this one, has no file of its own.
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BufferedWriter | io.FileIO):
        lossy = io.BufferedWriter(_LossyFile(stream.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(lossy, stream.encoding, stream.errors, line_buffering=True)
