"""The errors that end a run, with the exit status of each. Messages are one line."""

from __future__ import annotations

import signal
from pathlib import Path


class ClientError(Exception):
    """The run cannot go on; `exit_status` is the exit status of the process."""

    exit_status = 1

    def add(self, text: str) -> None:
        """Append a text to the message."""
        self.args = (f"{self}; {text}",)


class InputError(ClientError):
    """A flag is wrong, or the data or the tokenizer that it names."""

    exit_status = 2


class RunError(ClientError):
    """The server, the disk or the network failed."""


class NotWrittenError(RunError):
    """A file of figures could not be written."""

    def __init__(self, path: Path, reason: str | None) -> None:
        super().__init__(f"cannot write {path}: {reason}")
        self.path = path
        self.reason = reason


class FlawedRunError(RunError):
    """A run was completed, but questions failed, or the engine differs too much from the reference."""


class StoppedError(ClientError):
    """A signal ended the run. The exit status is the shell's for it: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.exit_status = 128 + number


class StreamLostError(Exception):
    """The stream of scores broke; questions without an answer may be asked again."""


class MuteStreamError(StreamLostError):
    """No answer came on the stream for as long as one may take."""


class GivenUpError(StreamLostError):
    """The server is not asked any more; the message says why, and names it."""
