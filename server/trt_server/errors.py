"""The server's errors, each with the status that a request is answered with."""

from __future__ import annotations

from trt_common.one_line import one_line, reason_of, shortened

from trt_server.status import Status

# Of an error's text, which a call's trailers hold twice: gRPC's clients take 8 KiB of them, and every byte of
# it may become three there.
MAX_TEXT_BYTES = 1024
# Of what a caller sent, where a text names it.
MAX_SHOWN_BYTES = 80


class StartError(Exception):
    """The server cannot start. The text is one line: what is wrong and what to do."""


class ScoringError(Exception):
    """A request cannot be answered. The text is for the caller.

    Attributes:
        status: What the request is answered with.
        retry_after_seconds: When to ask again; None: asking again does not help.
    """

    status = Status.INTERNAL
    retry_after_seconds: float | None = None


class InvalidRequestError(ScoringError):
    """The request itself is wrong, and asking again does not help."""

    status = Status.INVALID_ARGUMENT


class OutOfRangeError(ScoringError):
    """A prompt is longer than the engine takes, or more positions are asked for."""

    status = Status.OUT_OF_RANGE


class NotAdmittedError(ScoringError):
    """The caller has not shown that it may use the server."""

    status = Status.UNAUTHENTICATED


class NoRoomError(ScoringError):
    """There is no room for a request at present."""

    status = Status.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        """Say so to the caller.

        Args:
            message: What is full, and what to do.
            retry_after_seconds: When to ask again.
        """
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFullError(NoRoomError):
    """More requests wait than the queue holds."""


class BudgetSpentError(NoRoomError):
    """Requests take all of the memory that there is for them."""


class NotReceivedError(ScoringError):
    """A request has not come whole in the time for it."""

    status = Status.DEADLINE_EXCEEDED


class LateError(ScoringError):
    """The caller's deadline passes before the request can be answered."""

    status = Status.DEADLINE_EXCEEDED


class NotServingError(ScoringError):
    """The server takes no work at present."""

    status = Status.UNAVAILABLE


class NotLoadedError(NotServingError):
    """The engine is still being loaded."""


class DrainingError(ScoringError):
    """The server is going away and takes no new work."""

    status = Status.UNAVAILABLE


class EngineLostError(ScoringError):
    """An engine has failed for good; the process has to be started again."""

    status = Status.UNAVAILABLE


class NoReferenceError(ScoringError):
    """The reference engine was asked for and none is loaded."""

    status = Status.UNIMPLEMENTED


class NoTokenizerError(ScoringError):
    """The model has no tokenizer, or none that loads, so that only token ids can be scored."""

    status = Status.NOT_FOUND


def failure(error: BaseException) -> ScoringError:
    """Return what the caller is told of an error that nothing provides for."""
    return ScoringError(f"the server failed on this request: {reason_of(error)}")


def told(error: Exception) -> str:
    """Return the text of an error as a caller gets it: one line of bounded length."""
    return shortened(one_line(error), MAX_TEXT_BYTES)


def shown(value: object) -> str:
    """Return what a caller sent, quoted and shortened, as the text of an error names it."""
    return shortened(repr(value), MAX_SHOWN_BYTES)
