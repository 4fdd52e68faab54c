"""A request without an answer, and each time that a server was asked it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from mmlu_client.service.messages import Request


@dataclass
class PendingRequest:
    """A request that a server is to be asked, until it has an answer.

    Attributes:
        request: what is asked.
        due_ns: when it was to be sent, in nanoseconds of the monotonic clock.
        ready_ns: when a server could take it, on the same clock.
        timeouts: how often its answer took too long.
        avoided: the name of the server whose answer took too long; another is asked where there is one.
        is_answered: whether an answer was taken. A server that is asked again may answer twice.
    """

    request: Request
    due_ns: int
    ready_ns: int = 0
    timeouts: int = 0
    avoided: str | None = None
    is_answered: bool = False


@dataclass
class Attempt:
    """One time that a server was asked a request.

    Attributes:
        pending: the request.
        ready_ns: when a server could take it, in nanoseconds of the monotonic clock.
        id: what the server knows the request by: another name after each answer that took too long, so that
            a late one is told from that of the next time.
        asked_ns: when the server was chosen, in nanoseconds of the monotonic clock.
        sent_ns: when it was written to the stream, on the same clock; 0: not yet.
        is_refused: whether it waits to be sent again, because the server's queue was full.
    """

    pending: PendingRequest
    ready_ns: int
    id: str = field(init=False)
    asked_ns: int = field(default_factory=time.monotonic_ns)
    sent_ns: int = 0
    is_refused: bool = False

    def __post_init__(self) -> None:
        timeouts = self.pending.timeouts
        self.id = f"{self.pending.request.id}~{timeouts}" if timeouts else self.pending.request.id

    @property
    def request(self) -> Request:
        """The request as the server is asked it."""
        request = self.pending.request
        return request if self.id == request.id else replace(request, id=self.id)
