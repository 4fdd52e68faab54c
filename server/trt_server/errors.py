"""What can go wrong, as classes that carry their gRPC status."""

from __future__ import annotations

import grpc


class StartError(Exception):
    """The server cannot start. The text is one line: what is wrong and what to do."""


class ScoringError(Exception):
    """A request cannot be answered. The text is for the caller.

    `status` is the gRPC status it is answered with, `retry_after_seconds` (None: do not) when to ask again.
    """

    status = grpc.StatusCode.INTERNAL
    retry_after_seconds: float | None = None


class InvalidRequestError(ScoringError):
    """The request itself is wrong and will be wrong next time."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class PromptTooLongError(ScoringError):
    """A prompt is longer than the engine takes."""

    status = grpc.StatusCode.OUT_OF_RANGE


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
    """The engine failed and answers no more; the process has to be started again."""

    status = grpc.StatusCode.UNAVAILABLE


class NoReferenceError(ScoringError):
    """The reference engine was asked for and none is loaded."""

    status = grpc.StatusCode.UNIMPLEMENTED


class NoTokenizerError(ScoringError):
    """The model has no tokenizer, or none that loads: only token ids can be scored."""

    status = grpc.StatusCode.NOT_FOUND
