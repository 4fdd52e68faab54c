"""Hands requests to servers as they fall due, until every question has its answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from mmlu_client.load.answer import Answer, Collector
from mmlu_client.load.load_limits import LoadLimits
from mmlu_client.load.pacing import Pacing
from mmlu_client.load.pending import Attempt, PendingRequest
from mmlu_client.load.replica import Outage, Replica
from mmlu_client.load.source import RequestSource
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.messages import Refusal, Reply
from mmlu_client.service.remote_server import RemoteServer


class Load:
    """Sends one phase's requests, each to the server with the fewest unanswered ones.

    Attributes:
        in_flight: how many requests have no answer yet.
        starved_ns: how long requests that were due waited for their prompts to be built, in nanoseconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        source: RequestSource,
        pacing: Pacing,
        limits: LoadLimits,
        collector: Collector,
        say: Callable[[str], None],
    ) -> None:
        """Prepare to ask the servers that the fleet has now.

        Args:
            fleet: the servers; it also readmits one that comes back.
            source: builds the requests.
            pacing: says when each request is due.
            limits: how long servers and answers are waited for, and how long requests fall due.
            collector: takes each answer, and is asked before each new request whether that is enough.
            say: prints a line for the person.
        """
        self._fleet = fleet
        self._limits = limits
        self._collector = collector
        self._say = say
        self._replicas = [self._replica(server) for server in fleet.servers]
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Event()
        self._source = source
        self._pacing = pacing
        self._retry_queue: deque[PendingRequest] = deque()
        self._change = asyncio.Event()
        self._capacity_ns = 0
        self._exhausted = False
        self._finished = False
        self._started_ns = 0
        self._last_reply_ns = 0
        self.in_flight = 0
        self.starved_ns = 0

    @property
    def outages(self) -> list[Outage]:
        """Each loss of a stream, server by server."""
        return [outage for replica in self._replicas for outage in replica.outages]

    @property
    def timeouts(self) -> int:
        """How many answers took too long."""
        return sum(replica.timeouts for replica in self._replicas)

    @property
    def refusals(self) -> int:
        """How often a request was refused because a queue was full."""
        return sum(replica.full_queue.refusals for replica in self._replicas)

    @property
    def elapsed_ns(self) -> int:
        """The time from the start to the last answer so far, in nanoseconds."""
        return max(0, self._last_reply_ns - self._started_ns)

    async def run(self) -> None:
        """Send every request, and return when all are answered.

        Raises:
            RunError: every server is gone for good.
            InputError: prompts could not be built.
        """
        self._started_ns = time.monotonic_ns()
        self._pacing.start(self._started_ns)
        jobs = (self._issue(), self._issue_retries(), *(replica.run() for replica in self._replicas))
        self._tasks.update(asyncio.create_task(job) for job in jobs)
        await self._all_or_first_error()

    def join(self, server: RemoteServer) -> None:
        """Send requests to this server too from now on, if any are left."""
        if self._finished:
            return
        replica = self._replica(server)
        self._replicas.append(replica)
        self._tasks.add(asyncio.create_task(replica.run()))
        self._joined.set()

    def _replica(self, server: RemoteServer) -> Replica:
        limits = self._limits
        return Replica(server, self._fleet, limits.server_timeout, limits.request_timeout, self, self._say)

    async def _issue(self) -> None:
        """Send each new request when it is due."""
        while (due := await self._next_due()) is not None:
            wanted_ns = time.monotonic_ns()
            request = await self._source.next()
            self.starved_ns += time.monotonic_ns() - wanted_ns
            if request is None:
                break
            self.in_flight += 1
            replica = await self._replica_with_capacity()
            replica.ask(PendingRequest(request, due, ready_ns=max(due, self._capacity_ns)))
        self._exhausted = True
        self._change.set()

    async def _next_due(self) -> int | None:
        """Wait until another request is due.

        Returns:
            When it was due, in nanoseconds; None where no more are to be sent.
        """
        due = await self._pacing.next_due()
        if self._limits.duration_ns is None:
            await _sleep_until(due)
        else:
            end = self._started_ns + self._limits.duration_ns
            await _sleep_until(min(due, end))
            if due >= end:
                return None
        return None if self._collector.is_enough() else due

    async def _issue_retries(self) -> None:
        """Send again what a server did not answer, until every request has its answer."""
        while self.in_flight or not self._exhausted:
            if self._retry_queue:
                pending = self._retry_queue.popleft()
                replica = await self._replica_with_capacity(pending.avoided)
                pending.ready_ns = time.monotonic_ns()
                if not pending.is_answered:  # its late answer may have come meanwhile
                    replica.ask(pending)
            else:
                await self._wait_for_change()
        self._finished = True
        for replica in self._replicas:
            replica.finish()

    async def _replica_with_capacity(self, avoided: str | None = None) -> Replica:
        """Wait for a replica with capacity; of several, the one with the fewest unanswered requests.

        Args:
            avoided: the name of the server that is only asked where no other is there.
        """
        while not (replicas := [replica for replica in self._open(avoided) if replica.has_capacity]):
            await self._wait_for_change()
            self._capacity_ns = time.monotonic_ns()
        return min(replicas, key=lambda replica: replica.in_flight)

    def _open(self, avoided: str | None) -> list[Replica]:
        replicas = [replica for replica in self._replicas if replica.is_open]
        return [replica for replica in replicas if replica.server.name != avoided] or replicas

    async def _wait_for_change(self) -> None:
        self._change.clear()
        await self._change.wait()

    def complete(self, replica: Replica, attempt: Attempt, outcome: Reply | Refusal, now: int) -> None:
        """Hand on the answer to a request. See `Router`."""
        pending = attempt.pending
        if pending.is_answered:  # a server that was asked before has answered too
            self._change.set()
            return
        pending.is_answered = True
        self.in_flight -= 1
        self._last_reply_ns = now
        self._collector.on_answer(
            Answer(
                pending.request,
                outcome,
                replica.server.name,
                pending.due_ns,
                attempt.ready_ns,
                attempt.sent_ns,
                now,
            )
        )
        self._pacing.answered(now)
        self._change.set()

    def requeue(self, pending: Sequence[PendingRequest]) -> None:
        """Send these requests again. See `Router`."""
        self._retry_queue.extend(each for each in pending if not each.is_answered)
        self._change.set()

    def opened(self) -> None:
        """Take note that a replica opened its stream. See `Router`."""
        self._change.set()

    def is_last(self, replica: Replica) -> bool:
        """Whether every other replica is left out. See `Router`."""
        return all(other.left_out for other in self._replicas if other is not replica)

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
