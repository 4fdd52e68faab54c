"""What ends a run, as classes that carry their exit status. The text is one line."""

from __future__ import annotations

import signal
from pathlib import Path


class ClientError(Exception):
    """The run cannot go on. `exit_status` is what the process ends with."""

    exit_status = 1

    def add(self, text: str) -> None:
        """Say this too."""
        self.args = (f"{self}; {text}",)


class InputError(ClientError):
    """A flag, or the data or tokenizer it names, is wrong."""

    exit_status = 2


class RunError(ClientError):
    """The server, the disk or the network let the run down."""


class NotWrittenError(RunError):
    """A file of figures could not be written."""

    def __init__(self, path: Path, reason: str | None) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path = path
        self.reason = reason


class FlawedRunError(RunError):
    """A run came to its end, but questions failed, or the engine does not hold against the reference."""


class StoppedError(ClientError):
    """A signal ended the run; the exit status is the shell's for it: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.exit_status = 128 + number


class StreamLostError(Exception):
    """The stream of scores broke; what was unanswered may be asked again."""
