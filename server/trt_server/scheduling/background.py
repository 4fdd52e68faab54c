"""Work beside the event loop that may take minutes, and that nobody waits for once the process is to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from trt_server.scheduling import futures

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def in_background(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """What it returns or raises. As asyncio.to_thread, whose threads hold up the end of the event loop."""
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
