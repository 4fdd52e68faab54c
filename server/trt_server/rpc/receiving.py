"""Messages of gRPC calls while they are received: how many at once, and for how long.

gRPC tells nothing of a message before it is whole, and holds what has come of it, uncompressed, up to the
limit on one message. A message that is waited for therefore takes a place of that size in the budget.
Before it has one, gRPC takes no more of it than its stream's window, 64 KiB.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from grpc import aio

from trt_server.errors import BudgetSpentError, NotReceivedError, ScoringError
from trt_server.request_memory.byte_budget import RETRY_SECONDS, ByteBudget, Charge
from trt_server.request_memory.cost import MESSAGE_COPIES
from trt_server.rpc.types import Context

# A message that has not come for so long gives its place to a caller who waits for one.
PATIENCE_SECONDS = 5.0
# So long a caller waits for a place.
WAIT_SECONDS = 10.0


@dataclass(eq=False)
class Place:
    """A message that is waited for.

    Attributes:
        charge: What it takes of the budget.
        task: The one that waits for it.
        since: When it began to, on the event loop's clock.
        reason: Why it is given up; None: it is not.
    """

    charge: Charge
    task: asyncio.Task[object]
    since: float
    reason: ScoringError | None = field(default=None, init=False)

    def give_up(self, reason: ScoringError) -> None:
        """End the wait."""
        if self.reason is None:
            self.reason = reason
            self.task.cancel()


class Receiving:
    """Receives the messages of all calls of a server."""

    def __init__(self, budget: ByteBudget, max_message_bytes: int, timeout_seconds: float) -> None:
        """Receive within a budget.

        Args:
            budget: Of the server.
            max_message_bytes: Of one message, uncompressed; gRPC refuses a longer one.
            timeout_seconds: A call's only message is given up after so long.
        """
        self._budget = budget
        self._size = MESSAGE_COPIES * max_message_bytes
        self._timeout = timeout_seconds
        # The oldest first.
        self._places: dict[Place, None] = {}
        self._waiting: deque[asyncio.Future[Charge]] = deque()
        self._reclaiming: asyncio.TimerHandle | None = None
        budget.when_freed(self._admit)

    async def receive(self, context: Context, *, is_stream: bool) -> bytes | None:
        """Return the next message of a call; None: there is no more.

        Args:
            context: Of the call.
            is_stream: Whether the next message may be as long in coming as the caller likes, unless its
                place is needed.

        Raises:
            NotReceivedError: It has not come in time.
            BudgetSpentError: No place is free, or others need this one.
        """
        place = await self._place()
        loop = asyncio.get_running_loop()
        late = None
        if not is_stream:
            late = loop.call_later(self._timeout, place.give_up, self._not_received())
        try:
            # No message yet: the door's handlers have no deserializer.
            content: Any = await context.read()
        except asyncio.CancelledError:
            if place.reason is None:
                raise
            _uncancel(place.task)
            raise place.reason from None
        finally:
            if late is not None:
                late.cancel()
            del self._places[place]
            place.charge.release()
        received: bytes | None = None if content is aio.EOF else content
        return received

    async def _place(self) -> Place:
        if self._waiting or self._budget.free < self._size:
            charge = await self._next_room()
        else:
            charge = self._budget.take(self._size)
        task = asyncio.current_task()
        assert task is not None
        place = Place(charge, task, asyncio.get_running_loop().time())
        self._places[place] = None
        return place

    async def _next_room(self) -> Charge:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Charge] = loop.create_future()
        self._waiting.append(turn)
        late = loop.call_later(WAIT_SECONDS, _refuse, turn)
        self._reclaim()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().release()
            raise
        finally:
            late.cancel()
            with suppress(ValueError):
                self._waiting.remove(turn)

    def _admit(self) -> None:
        """Let those in who wait, as far as there is room."""
        while self._waiting and self._budget.free >= self._size:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._budget.take(self._size))

    def _reclaim(self) -> None:
        """Give up the oldest messages that have not come, one for each caller who waits for a place."""
        loop = asyncio.get_running_loop()
        if self._reclaiming is not None:
            self._reclaiming.cancel()
            self._reclaiming = None
        if not self._waiting:
            return
        oldest = [place for place in self._places if place.reason is None][: len(self._waiting)]
        left = [place for place in oldest if loop.time() - place.since < PATIENCE_SECONDS]
        for place in oldest[: len(oldest) - len(left)]:
            place.give_up(
                BudgetSpentError(
                    f"no request came whole for {PATIENCE_SECONDS:g} s or more, and others need the memory "
                    "that is kept for it: send it again",
                    RETRY_SECONDS,
                )
            )
        delay = max(left[0].since + PATIENCE_SECONDS - loop.time(), 0.0) if left else PATIENCE_SECONDS
        self._reclaiming = loop.call_later(delay + 0.01, self._reclaim)

    def _not_received(self) -> NotReceivedError:
        return NotReceivedError(f"the request has not come whole in {self._timeout:g} s: send it again")


def _refuse(turn: asyncio.Future[Charge]) -> None:
    if not turn.done():
        turn.set_exception(
            BudgetSpentError(
                f"all of the memory for requests was taken for {WAIT_SECONDS:g} s: ask again later, or start "
                "the server with a larger --request-memory",
                RETRY_SECONDS,
            )
        )


def _uncancel(task: asyncio.Task[object]) -> None:
    """Take back a cancellation that we asked for ourselves; before Python 3.11 it leaves no trace."""
    if (uncancel := getattr(task, "uncancel", None)) is not None:
        uncancel()
