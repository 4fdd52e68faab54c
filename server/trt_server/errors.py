"""The server's errors, each with the gRPC status that it is answered with."""

from __future__ import annotations

import grpc


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
