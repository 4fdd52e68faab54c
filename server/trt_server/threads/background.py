"""Functions that run beside the event loop for up to minutes, and do not hold up the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from trt_server.threads import futures

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_background(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Run a function in a thread, and return what it returns or raise what it raises.

    It differs from asyncio.to_thread in that the event loop does not wait for the thread when it ends.
    """
    outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            result = function(*arguments, **named)
        except BaseException as error:
            futures.set_exception(outcome, error)
        else:
            futures.set_result(outcome, result)

    threading.Thread(target=run, name="background", daemon=True).start()
    return await outcome
