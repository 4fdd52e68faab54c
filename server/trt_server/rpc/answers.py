"""Hands answers and errors to whoever waits for a request, from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from trt_server.scheduling.request import Answer, ScoringRequest

Result = TypeVar("Result")


def deliver(request: ScoringRequest, answer: Answer) -> None:
    settle(request.answer, answer)


def refuse(requests: Sequence[ScoringRequest], error: Exception) -> None:
    for request in requests:
        fail(request.answer, error)


def settle(future: asyncio.Future[Result], result: Result) -> None:
    """On the loop that the future belongs to; nothing where it was cancelled."""
    _call(future, lambda: None if future.done() else future.set_result(result))


def fail(future: asyncio.Future[Result], error: BaseException) -> None:
    _call(future, lambda: None if future.done() else future.set_exception(error))


def _call(future: asyncio.Future[Result], function: Callable[[], None]) -> None:
    # Of a loop that is closed: nobody waits any more.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(function)
