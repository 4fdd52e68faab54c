"""The answer to a request, and what takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mmlu_client.service.messages import Refusal, Reply, Request


@dataclass(frozen=True)
class Answer:
    """A request and what came back for it.

    Times are nanoseconds of this machine's monotonic clock.

    Attributes:
        request: what was asked.
        outcome: the server's reply, or its refusal of this request.
        server: the name of the server that answered.
        due_ns: when the request was to be sent.
        ready_ns: when a server could take it; later than due only where every server had as many as it takes.
        sent_ns: when it was written to the stream.
        received_ns: when its reply was read.
    """

    request: Request
    outcome: Reply | Refusal
    server: str
    due_ns: int
    ready_ns: int
    sent_ns: int
    received_ns: int


@dataclass(frozen=True)
class Collector:
    """What takes a load's answers.

    Attributes:
        on_answer: takes each.
        is_enough: says before each new request whether no more are to be sent.
    """

    on_answer: Callable[[Answer], None]
    is_enough: Callable[[], bool] = lambda: False
