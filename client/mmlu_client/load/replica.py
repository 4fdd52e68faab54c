"""One server of a load: its stream, what it was asked and has not answered, and its coming back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmlu_client.errors import GivenUpError, MuteStreamError, RunError, StreamLostError
from mmlu_client.load.full_queue import FullQueue
from mmlu_client.load.patience import Patience
from mmlu_client.load.pending import Attempt, PendingRequest
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.messages import Refusal, Reply
from mmlu_client.service.plausible import plausible_answer
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.service.server_connection import AnswerStream
from mmlu_client.text import shortest

MAX_FAILED_STREAMS = 5
# Fewer of those on which nothing came at all: each was waited for as long as an answer may take.
MAX_MUTE_STREAMS = 3
# How often a request is asked that the server answers others instead of.
MAX_TIMEOUTS = 3
HALF_CLOSE_SECONDS = 5.0
# How often it is looked whether an answer takes too long.
LOOK_SECONDS = 1.0


class Router(Protocol):
    """Gives requests to replicas and takes their answers."""

    def complete(self, replica: Replica, attempt: Attempt, outcome: Reply | Refusal, now: int) -> None:
        """Take the answer that a replica gave to a request, unless there is one already.

        Args:
            replica: the one that answered.
            attempt: the request, as it was asked this time.
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
        timeouts: how many answers took too long.
        full_queue: the requests that it refused because its queue was full.
    """

    def __init__(
        self,
        server: RemoteServer,
        fleet: Fleet,
        server_timeout: float,
        request_timeout: float | None,
        router: Router,
        say: Callable[[str], None],
    ) -> None:
        """Prepare to ask a server.

        Args:
            server: the server.
            fleet: readmits the server when it comes back.
            server_timeout: how long to wait for the server when it went away, in seconds.
            request_timeout: how long an answer may take, and a full queue refuse every request, in seconds;
                None: as `Patience` says.
            router: gives requests and takes their answers.
            say: prints a line for the person.
        """
        self.server = server
        self.outages: list[Outage] = []
        self.is_open = False
        self.left_out = False
        self.timeouts = 0
        self.full_queue = FullQueue(server.name)
        self._fleet = fleet
        self._server_timeout = server_timeout
        self._patience = Patience(request_timeout)
        self._router = router
        self._say = say
        self._unanswered: dict[str, Attempt] = {}
        # Whose answers took too long, and may still come on this stream.
        self._late: dict[str, Attempt] = {}
        self._unsent: asyncio.Queue[Attempt | None] = asyncio.Queue()
        self._backoffs: set[asyncio.TimerHandle] = set()
        self._finishing = asyncio.Event()
        self._drained = asyncio.Event()
        self._failed_streams = 0
        self._heard_ns = 0

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
        attempt = Attempt(pending, pending.ready_ns)
        self._unanswered[attempt.id] = attempt
        self._unsent.put_nowait(attempt)

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
        looking = asyncio.create_task(self._look_for_late_answers())
        tasks = (receiving, sending, draining, looking)
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
        while (attempt := await self._unsent.get()) is not None:
            attempt.sent_ns = time.monotonic_ns()
            await stream.send(attempt.request)
        await stream.finish()

    async def _receive(self, stream: AnswerStream) -> None:
        while True:
            answer = await stream.receive()
            now = time.monotonic_ns()
            if answer is None:
                if self._finishing.is_set():
                    return
                raise StreamLostError("the server ended it")
            self._heard_ns = now
            asked = self._late.get(answer.id) or self._unanswered.get(answer.id)
            answer = plausible_answer(answer, asked.request.prompts if asked else (), self.server.model)
            if (late := self._late.pop(answer.id, None)) is not None:
                if isinstance(answer, Reply):
                    self._complete(late, answer, now)
                continue
            attempt = self._unanswered.get(answer.id)
            if attempt is None:
                raise RunError(f"{self.server.name} answered request {answer.id!r}, which it was not asked")
            if isinstance(answer, Refusal) and answer.code == "RESOURCE_EXHAUSTED":
                self._requeue_later(attempt, answer.retry_after)
            elif isinstance(answer, Refusal) and answer.code == "UNAVAILABLE":
                # It drains or lost its engine: what it accepted is still to come, the rest is asked again.
                self.is_open = False
                self._remove(attempt)
                self._router.requeue([attempt.pending])
            else:
                self._remove(attempt)
                self._complete(attempt, answer, now)

    def _complete(self, attempt: Attempt, answer: Reply | Refusal, now: int) -> None:
        self._failed_streams = 0
        self.full_queue.answered()
        self._patience.answered((now - attempt.asked_ns) / 1e9)
        self._router.complete(self, attempt, answer, now)

    def _remove(self, attempt: Attempt) -> None:
        """Forget a request that the server will not answer any more.

        A replica that takes no more requests ends its stream after the last of them.
        """
        del self._unanswered[attempt.id]
        if not self.is_open and not self._unanswered:
            self._drained.set()

    async def _end_when_drained(self) -> None:
        await self._drained.wait()
        raise StreamLostError("the server takes no more work")

    async def _look_for_late_answers(self) -> None:
        """Have requests asked again whose answers take too long.

        Raises:
            MuteStreamError: nothing at all has come since they were asked.
        """
        while True:
            most = self._patience.seconds
            await asyncio.sleep(min(LOOK_SECONDS, most / 4))
            limit = time.monotonic_ns() - most * 1e9
            late = [
                each for each in self._unanswered.values() if not each.is_refused and each.asked_ns < limit
            ]
            if late:
                self._give_up(late, most)

    def _give_up(self, late: Sequence[Attempt], seconds: float) -> None:
        self.timeouts += len(late)
        if self._heard_ns < late[0].asked_ns:
            raise MuteStreamError(f"no answer in {shortest(seconds)} s; --request-timeout sets how long")
        first = late[0].pending.request.id
        self._say(
            f"{self.server.name} has answered others and not {len(late)} requests of "
            f"{shortest(seconds)} s ago, {first} the first: asking again"
        )
        for attempt in late:
            pending = attempt.pending
            pending.timeouts += 1
            pending.avoided = self.server.name
            self._remove(attempt)
            self._late[attempt.id] = attempt
            if pending.timeouts < MAX_TIMEOUTS:
                self._router.requeue([pending])
            else:
                why = f"no answer in {shortest(seconds)} s, asked {MAX_TIMEOUTS} times"
                refusal = Refusal(pending.request.id, "DEADLINE_EXCEEDED", why, None)
                self._router.complete(self, attempt, refusal, time.monotonic_ns())

    def _requeue_later(self, attempt: Attempt, seconds: float | None) -> None:
        """Have a request sent again after some seconds, because the server's queue is full now.

        It counts as in flight until then, so that this server is given fewer new requests.

        Args:
            attempt: the request.
            seconds: the delay that the server asks for; None where it does not say.

        Raises:
            GivenUpError: the server has taken no request for too long.
        """

        def ask() -> None:
            self._backoffs.discard(handle)
            self._remove(attempt)
            self._router.requeue([attempt.pending])

        attempt.is_refused = True
        delay = self.full_queue.delay(seconds, self._patience.seconds)
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
        open_requests = [attempt.pending for attempt in self._unanswered.values()]
        self._unanswered.clear()
        self._late.clear()
        self._unsent = asyncio.Queue()
        self._router.requeue(open_requests)
        try:
            self._check_worth_waiting(loss)
            self._say(
                f"the stream to {self.server.name} broke ({loss}); "
                f"asking its {len(open_requests)} open requests again"
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

    def _check_worth_waiting(self, loss: StreamLostError) -> None:
        """Check that the next stream may fare better.

        Raises:
            RunError: the server was asked often enough.
        """
        if isinstance(loss, GivenUpError):
            raise RunError(str(loss))
        most = MAX_MUTE_STREAMS if isinstance(loss, MuteStreamError) else MAX_FAILED_STREAMS
        if self._failed_streams >= most:
            raise RunError(
                f"the server broke {self._failed_streams} streams in a row without an answer: {loss}"
            )

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
