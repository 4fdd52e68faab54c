"""The server's errors, each with the gRPC status that it is answered with."""

from __future__ import annotations

import grpc
from trt_common.one_line import one_line, reason_of, shortened

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
        status: The gRPC status that the request is answered with.
        retry_after_seconds: When to ask again; None: asking again does not help.
    """

    status = grpc.StatusCode.INTERNAL
    retry_after_seconds: float | None = None


class InvalidRequestError(ScoringError):
    """The request itself is wrong, and asking again does not help."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class OutOfRangeError(ScoringError):
    """A prompt is longer than the engine takes, or more positions are asked for."""

    status = grpc.StatusCode.OUT_OF_RANGE


class NotAdmittedError(ScoringError):
    """The caller has not shown that it may use the server."""

    status = grpc.StatusCode.UNAUTHENTICATED


class QueueFullError(ScoringError):
    """More requests wait than the queue holds."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class BudgetSpentError(ScoringError):
    """Requests take all of the memory that there is for them."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotReceivedError(ScoringError):
    """A request has not come whole in the time for it."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class LateError(ScoringError):
    """The caller's deadline passes before the request can be answered."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED


class DrainingError(ScoringError):
    """The server is going away and takes no new work."""

    status = grpc.StatusCode.UNAVAILABLE


class EngineLostError(ScoringError):
    """An engine has failed for good; the process has to be started again."""

    status = grpc.StatusCode.UNAVAILABLE


class NoReferenceError(ScoringError):
    """The reference engine was asked for and none is loaded."""

    status = grpc.StatusCode.UNIMPLEMENTED


class NoTokenizerError(ScoringError):
    """The model has no tokenizer, or none that loads, so that only token ids can be scored."""

    status = grpc.StatusCode.NOT_FOUND


def failure(error: BaseException) -> ScoringError:
    """Return what the caller is told of an error that nothing provides for."""
    return ScoringError(f"the server failed on this request: {reason_of(error)}")


def told(error: Exception) -> str:
    """Return the text of an error as a caller gets it: one line of bounded length."""
    return shortened(one_line(error), MAX_TEXT_BYTES)


def shown(value: object) -> str:
    """Return what a caller sent, quoted and shortened, as the text of an error names it."""
    return shortened(repr(value), MAX_SHOWN_BYTES)
