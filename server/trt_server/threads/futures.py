"""Futures of an event loop, given their result or their exception from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def set_result(future: asyncio.Future[Result], result: Result) -> None:
    """Set it on the future's own loop; nothing happens where the future is done or was cancelled."""
    _call(future, lambda: None if future.done() else future.set_result(result))


def set_exception(future: asyncio.Future[Result], error: BaseException) -> None:
    """Set it on the future's own loop; nothing happens where the future is done or was cancelled."""
    _call(future, lambda: None if future.done() else future.set_exception(error))


def _call(future: asyncio.Future[Result], function: Callable[[], None]) -> None:
    # Of a loop that is closed: nobody waits any more.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(function)
