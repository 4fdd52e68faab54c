"""One server of a load: its stream, what it was asked and has not answered, and its coming back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmlu_client.errors import RunError, StreamLostError
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.service.server_connection import AnswerStream

MAX_FAILED_STREAMS = 5
BACKOFF_SECONDS = 0.5
HALF_CLOSE_SECONDS = 5.0


@dataclass
class PendingRequest:
    """A request without an answer.

    Times are nanoseconds of the monotonic clock.

    Attributes:
        request: what is asked.
        due_ns: when it was to be sent.
        ready_ns: when a server could take it.
        sent_ns: when it was written to the stream.
    """

    request: Request
    due_ns: int
    ready_ns: int = 0
    sent_ns: int = 0


class Router(Protocol):
    """Gives requests to replicas and takes their answers."""

    def complete(self, replica: Replica, pending: PendingRequest, outcome: Reply | Refusal, now: int) -> None:
        """Take the answer that a replica gave to a request.

        Args:
            replica: the one that answered.
            pending: the request.
            outcome: the answer.
            now: when it was read, in nanoseconds of the monotonic clock.
        """
        ...

    def requeue(self, pending: Sequence[PendingRequest]) -> None:
        """Take requests that a replica did not answer: they are to be sent again, to it or to another."""
        ...

    def opened(self) -> None:
        """Take note that a replica can take requests that could not before."""
        ...

    def is_last(self, replica: Replica) -> bool:
        """Whether no other replica can take requests, now or later."""
        ...


@dataclass(frozen=True)
class Outage:
    """The time without a stream to a server, until the server was back or given up.

    Attributes:
        server: its name.
        lost_ns: when the stream was lost, in nanoseconds of the monotonic clock.
        over_ns: when the server was back or given up, on the same clock.
    """

    server: str
    lost_ns: int
    over_ns: int


class Replica:
    """Sends requests to one server over a stream, and opens another stream when that one is lost.

    Attributes:
        server: the server, with the model it held when it joined the run.
        outages: each loss of its stream.
        is_open: whether it takes requests now.
        left_out: whether it takes none any more.
    """

    def __init__(
        self,
        server: RemoteServer,
        fleet: Fleet,
        server_timeout: float,
        router: Router,
        say: Callable[[str], None],
    ) -> None:
        """Prepare to send requests to a server.

        Args:
            server: the server.
            fleet: readmits the server when it comes back.
            server_timeout: how long to wait for the server when it went away, in seconds.
            router: gives requests and takes their answers.
            say: prints a line for the person.
        """
        self.server = server
        self.outages: list[Outage] = []
        self.is_open = False
        self.left_out = False
        self._fleet = fleet
        self._server_timeout = server_timeout
        self._router = router
        self._say = say
        self._unanswered: dict[str, PendingRequest] = {}
        self._unsent: asyncio.Queue[PendingRequest | None] = asyncio.Queue()
        self._backoffs: set[asyncio.TimerHandle] = set()
        self._finishing = asyncio.Event()
        self._drained = asyncio.Event()
        self._failed_streams = 0

    @property
    def in_flight(self) -> int:
        """How many requests it has not answered yet."""
        return len(self._unanswered)

    @property
    def has_capacity(self) -> bool:
        """Whether it takes requests now and has fewer than its stream's window."""
        return self.is_open and self.in_flight < max(1, self.server.model.stream_window)

    def ask(self, pending: PendingRequest) -> None:
        """Send a request as soon as the stream takes it."""
        self._unanswered[pending.request.id] = pending
        self._unsent.put_nowait(pending)

    def finish(self) -> None:
        """End the stream, or give up waiting for the server: no more requests will come."""
        self._finishing.set()
        self._unsent.put_nowait(None)

    async def run(self) -> None:
        """Send requests until `finish` is called or the server is left out.

        Raises:
            RunError: the server is gone for good and no other is left, or it broke the protocol.
        """
        while not self._finishing.is_set():
            stream = self.server.connection.stream()
            self.is_open = True
            self._drained.clear()
            self._router.opened()
            try:
                await self._converse(stream)
            except StreamLostError as loss:
                if self._finishing.is_set():
                    return
                if not await self._recover(loss):
                    return
            finally:
                self.is_open = False
                stream.close()

    async def _converse(self, stream: AnswerStream) -> None:
        """Send and receive on a stream until it ends."""
        receiving, sending = (asyncio.create_task(end(stream)) for end in (self._receive, self._send))
        draining = asyncio.create_task(self._end_when_drained())
        tasks = (receiving, sending, draining)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.exception():
                await asyncio.wait({receiving}, timeout=HALF_CLOSE_SECONDS)
        finally:
            for handle in self._backoffs:
                handle.cancel()
            self._backoffs.clear()
            for task in tasks:
                task.cancel()
            endings = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [ending for ending in endings if isinstance(ending, Exception)]
        # What ends the run goes before what only ends the stream, and a read's reason before a write's.
        for error in sorted(errors, key=lambda error: isinstance(error, StreamLostError)):
            raise error

    async def _send(self, stream: AnswerStream) -> None:
        while (pending := await self._unsent.get()) is not None:
            pending.sent_ns = time.monotonic_ns()
            await stream.send(pending.request)
        await stream.finish()

    async def _receive(self, stream: AnswerStream) -> None:
        while True:
            answer = await stream.receive()
            now = time.monotonic_ns()
            if answer is None:
                if self._finishing.is_set():
                    return
                raise StreamLostError("the server ended it")
            pending = self._unanswered.get(answer.id)
            if pending is None:
                raise RunError(f"{self.server.name} answered request {answer.id!r}, which it was not asked")
            if isinstance(answer, Refusal) and answer.code == "RESOURCE_EXHAUSTED":
                self._requeue_later(pending, answer.retry_after)
            elif isinstance(answer, Refusal) and answer.code == "UNAVAILABLE":
                # It drains or lost its engine: what it accepted is still to come, the rest is asked again.
                self.is_open = False
                self._remove(pending)
                self._router.requeue([pending])
            else:
                self._remove(pending)
                self._failed_streams = 0
                self._router.complete(self, pending, answer, now)

    def _remove(self, pending: PendingRequest) -> None:
        """Forget a request that the server will not answer any more.

        A replica that takes no more requests ends its stream after the last of them.
        """
        del self._unanswered[pending.request.id]
        if not self.is_open and not self._unanswered:
            self._drained.set()

    async def _end_when_drained(self) -> None:
        await self._drained.wait()
        raise StreamLostError("the server takes no more work")

    def _requeue_later(self, pending: PendingRequest, seconds: float | None) -> None:
        """Have a request sent again after some seconds, because the server's queue is full now.

        It counts as in flight until then, so that this server is given fewer new requests.

        Args:
            pending: the request.
            seconds: the delay that the server asks for; None where it does not say.
        """

        def ask() -> None:
            self._backoffs.discard(handle)
            self._remove(pending)
            self._router.requeue([pending])

        delay = BACKOFF_SECONDS if seconds is None else seconds
        handle = asyncio.get_running_loop().call_later(delay, ask)
        self._backoffs.add(handle)

    async def _recover(self, loss: StreamLostError) -> bool:
        """Requeue what is unanswered, and wait for the server.

        Returns:
            Whether the server is back; otherwise it is left out from now on.

        Raises:
            RunError: it is not, and no other server is left.
        """
        lost_ns = time.monotonic_ns()
        self.is_open = False
        self._failed_streams += 1
        open_requests = list(self._unanswered.values())
        self._unanswered.clear()
        self._unsent = asyncio.Queue()
        self._router.requeue(open_requests)
        self._say(
            f"the stream to {self.server.name} broke ({loss}); "
            f"asking its {len(open_requests)} open requests again"
        )
        try:
            if self._failed_streams >= MAX_FAILED_STREAMS:
                raise RunError(
                    f"the server broke {self._failed_streams} streams in a row without an answer: {loss}"
                )
            await self._come_back()
        except RunError as error:
            self.left_out = True
            if self._router.is_last(self):
                raise
            self._say(f"{self.server.name} is left out from now on: {error}")
            return False
        finally:
            self.outages.append(Outage(self.server.name, lost_ns, time.monotonic_ns()))
        return True

    async def _come_back(self) -> None:
        """Wait until the server is admitted again, or `finish` is called.

        Raises:
            RunError: the server cannot be used any more.
        """
        rejoining = asyncio.create_task(self._fleet.rejoin(self.server, self._server_timeout))
        finishing = asyncio.create_task(self._finishing.wait())
        try:
            await asyncio.wait({rejoining, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if rejoining.done():
                rejoining.result()
        finally:
            rejoining.cancel()
            finishing.cancel()
            await asyncio.gather(rejoining, finishing, return_exceptions=True)
