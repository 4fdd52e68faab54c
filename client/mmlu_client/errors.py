"""What ends a run, as classes that carry their exit status. The text is one line."""

from __future__ import annotations

import signal


class ClientError(Exception):
    """The run cannot go on. `exit_status` is what the process ends with."""

    exit_status = 1


class InputError(ClientError):
    """A flag, or the data or tokenizer it names, is wrong."""

    exit_status = 2


class RunError(ClientError):
    """The server, the disk or the network let the run down."""


class StoppedError(ClientError):
    """A signal ended the run; the exit status is the shell's for it: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.exit_status = 128 + number


class StreamLostError(Exception):
    """The stream of scores broke; what was unanswered may be asked again."""
