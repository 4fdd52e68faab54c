"""Hands requests to servers as they fall due, until every question has its answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmlu_client.load.lane import Asked, Lane, Outage, Server
from mmlu_client.load.pacing import Pacing
from mmlu_client.load.source import RequestSource
from mmlu_client.service.messages import Refusal, Reply, Request


@dataclass(frozen=True)
class Answer:
    """A request and what came back; times are this machine's monotonic clock, in nanoseconds.

    due: when it was to be asked; ready: when the client was free to ask it, later than due only where every
    server had as much as it takes; sent, received: when it was written and its reply read.
    """

    request: Request
    outcome: Reply | Refusal
    server: str
    due_ns: int
    ready_ns: int
    sent_ns: int
    received_ns: int


class Load:
    """One phase's requests. Each goes to the server with the fewest unanswered ones.

    in_flight: requests without an answer. starved_ns: how long requests that were due waited for their
    prompts to be built.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        source: RequestSource,
        pacing: Pacing,
        server_timeout: float,
        on_answer: Callable[[Answer], None],
        on_return: Callable[[Server], None],
        is_enough: Callable[[], bool],
        say: Callable[[str], None],
        duration_ns: int | None = None,
    ) -> None:
        """on_return: told of a server that comes back, before it is asked again; raises ClientError where it
        is not to be. is_enough: asked before each new request. duration_ns: how long requests may fall due,
        None: until every question is asked.
        """
        self._server_timeout = server_timeout
        self._say = say
        self._lanes = [self._lane(server) for server in servers]
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Event()
        self._source = source
        self._pacing = pacing
        self._on_answer = on_answer
        self._on_return = on_return
        self._is_enough = is_enough
        self._duration_ns = duration_ns
        self._again: deque[Asked] = deque()
        self._change = asyncio.Event()
        self._room_ns = 0
        self._exhausted = False
        self._finished = False
        self._started_ns = 0
        self._last_reply_ns = 0
        self.in_flight = 0
        self.starved_ns = 0

    @property
    def outages(self) -> list[Outage]:
        return [outage for lane in self._lanes for outage in lane.outages]

    @property
    def elapsed_ns(self) -> int:
        """From the start to the last reply so far."""
        return max(0, self._last_reply_ns - self._started_ns)

    async def run(self) -> None:
        """Return when everything is answered. Raises RunError when every server is gone for good."""
        self._started_ns = time.monotonic_ns()
        self._pacing.start(self._started_ns)
        jobs = (self._issue(), self._issue_again(), *(lane.run() for lane in self._lanes))
        self._tasks.update(asyncio.create_task(job) for job in jobs)
        await self._all_or_first_error()

    def join(self, server: Server) -> None:
        """Ask this one too, from now on, if anything is left to ask."""
        if self._finished:
            return
        lane = self._lane(server)
        self._lanes.append(lane)
        self._tasks.add(asyncio.create_task(lane.run()))
        self._joined.set()

    def _lane(self, server: Server) -> Lane:
        return Lane(server, self._server_timeout, self, self._say)

    async def _issue(self) -> None:
        """Ask what falls due."""
        while (due := await self._next_due()) is not None:
            wanted_ns = time.monotonic_ns()
            request = await self._source.next()
            self.starved_ns += time.monotonic_ns() - wanted_ns
            if request is None:
                break
            self.in_flight += 1
            lane = await self._lane_with_room()
            lane.ask(Asked(request, due, ready_ns=max(due, self._room_ns)))
        self._exhausted = True
        self._change.set()

    async def _next_due(self) -> int | None:
        """Wait until another request is due, and say when it was; None where none is to be asked any more."""
        due = await self._pacing.next_due()
        if self._duration_ns is None:
            await _sleep_until(due)
        else:
            end = self._started_ns + self._duration_ns
            await _sleep_until(min(due, end))
            if due >= end:
                return None
        return None if self._is_enough() else due

    async def _issue_again(self) -> None:
        """Ask again what a server gave back, until all is answered."""
        while self.in_flight or not self._exhausted:
            if self._again:
                asked = self._again.popleft()
                lane = await self._lane_with_room()
                asked.ready_ns = time.monotonic_ns()
                lane.ask(asked)
            else:
                await self._wait_for_change()
        self._finished = True
        for lane in self._lanes:
            lane.finish()

    async def _lane_with_room(self) -> Lane:
        """Of those with room, the one with the fewest unanswered requests."""
        while not (lanes := [lane for lane in self._lanes if lane.has_room]):
            await self._wait_for_change()
            self._room_ns = time.monotonic_ns()
        return min(lanes, key=lambda lane: lane.load)

    async def _wait_for_change(self) -> None:
        self._change.clear()
        await self._change.wait()

    def settle(self, lane: Lane, asked: Asked, outcome: Reply | Refusal, now: int) -> None:
        self.in_flight -= 1
        self._last_reply_ns = now
        self._on_answer(
            Answer(asked.request, outcome, lane.server.name, asked.due_ns, asked.ready_ns, asked.sent_ns, now)
        )
        self._pacing.answered(now)
        self._change.set()

    def take_back(self, asked: Sequence[Asked]) -> None:
        self._again.extend(asked)
        self._change.set()

    def opened(self) -> None:
        self._change.set()

    def came_back(self, server: Server) -> None:
        self._on_return(server)

    def is_last(self, lane: Lane) -> bool:
        return all(other.left_out for other in self._lanes if other is not lane)

    async def _all_or_first_error(self) -> None:
        """Return when all tasks are done; an error of one, or a cancellation, ends the others."""
        joined = asyncio.create_task(self._joined.wait())
        try:
            while running := {task for task in self._tasks if not task.done()}:
                done, _ = await asyncio.wait({*running, joined}, return_when=asyncio.FIRST_COMPLETED)
                if any(not task.cancelled() and task.exception() for task in done):
                    break
                if joined in done:
                    self._joined.clear()
                    joined = asyncio.create_task(self._joined.wait())
        finally:
            for task in (*self._tasks, joined):
                task.cancel()
            endings = await asyncio.gather(*self._tasks, joined, return_exceptions=True)
        for ending in endings:
            if isinstance(ending, Exception):
                raise ending


async def _sleep_until(moment_ns: int) -> None:
    wait = moment_ns - time.monotonic_ns()
    if wait > 0:
        await asyncio.sleep(wait / 1e9)
