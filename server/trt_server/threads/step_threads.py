"""Threads beside the event loop for work that a request needs before it can wait for an engine, or after.

The work is done in short steps. Between two of them that of others has its turn, and where the caller has
gone away no further step is begun.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from trt_server.threads import futures

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Work in steps: it yields between two of them, and returns its result.
Steps = Generator[None, None, Result]


class StepThreads:
    """A few threads that take steps in the order in which these are asked for.

    The end of the process does not wait for them.
    """

    def __init__(self, count: int) -> None:
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._serve, name=f"steps-{number}", daemon=True).start()

    async def run(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """Call a function as one step; return what it returns, or raise what it raises.

        A step whose caller is cancelled before its turn is left out.
        """
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def step() -> None:
            if outcome.cancelled():
                return
            try:
                result = function(*arguments, **named)
            except BaseException as error:
                futures.set_exception(outcome, error)
            else:
                futures.set_result(outcome, result)

        self._asked.put(step)
        return await outcome

    async def run_steps(self, steps: Steps[Result]) -> Result:
        """Take the steps one by one; return what the last returns, or raise what one of them raises."""
        while not (done := await self.run(_next, steps)):
            pass
        return done[0]

    def _serve(self) -> None:
        while True:
            self._asked.get()()


def all_steps(steps: Steps[Result]) -> Result:
    """Take all steps at once, in this thread; return what the last returns."""
    while not (done := _next(steps)):
        pass
    return done[0]


def _next(steps: Steps[Result]) -> tuple[Result] | tuple[()]:
    """Take one step; return the result in a tuple, which is empty where there are more steps."""
    try:
        next(steps)
    except StopIteration as end:
        return (end.value,)
    return ()
