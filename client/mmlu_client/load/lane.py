"""One server's share of the load: its stream, what it was asked, and its coming back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mmlu_client.errors import ClientError, RunError, StreamLostError
from mmlu_client.service.connection import Connection, ScoreStream
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model import ServedModel

BARREN_STREAMS = 5
RETRY_SECONDS = 0.5
GOODBYE_SECONDS = 5.0


@dataclass(frozen=True)
class Server:
    """name: its address, as reports call it. model: what it held when the run began."""

    name: str
    connection: Connection
    model: ServedModel


@dataclass
class Asked:
    """A request on its way. Nanoseconds of the monotonic clock: when it was due, could first go, and went."""

    request: Request
    due_ns: int
    ready_ns: int = 0
    sent_ns: int = 0


class Desk(Protocol):
    """Who hands requests to lanes and takes their answers."""

    def settle(self, lane: Lane, asked: Asked, outcome: Reply | Refusal, now: int) -> None: ...

    def take_back(self, asked: Sequence[Asked]) -> None:
        """These were not answered here: they are to be asked again, here or elsewhere."""
        ...

    def opened(self) -> None:
        """A lane may be asked that could not be."""
        ...

    def came_back(self, server: Server) -> None:
        """With what it holds now. Raises ClientError where that is not what the run asks for."""
        ...

    def is_last(self, lane: Lane) -> bool:
        """Whether no other lane can be asked, now or later."""
        ...


@dataclass(frozen=True)
class Outage:
    """A stream that was lost, until the server was back or given up. Nanoseconds of the monotonic clock."""

    server: str
    lost_ns: int
    over_ns: int


class Lane:
    """outages: each loss of its stream."""

    def __init__(self, server: Server, server_timeout: float, desk: Desk, say: Callable[[str], None]) -> None:
        self.server = server
        self.outages: list[Outage] = []
        self.is_open = False
        self.left_out = False
        self._server_timeout = server_timeout
        self._desk = desk
        self._say = say
        self._unanswered: dict[str, Asked] = {}
        self._outbox: asyncio.Queue[Asked | None] = asyncio.Queue()
        self._retries: set[asyncio.TimerHandle] = set()
        self._finishing = asyncio.Event()
        self._emptied = asyncio.Event()
        self._barren = 0

    @property
    def load(self) -> int:
        """Requests it has not answered yet."""
        return len(self._unanswered)

    @property
    def has_room(self) -> bool:
        return self.is_open and self.load < max(1, self.server.model.stream_window)

    def ask(self, asked: Asked) -> None:
        self._unanswered[asked.request.id] = asked
        self._outbox.put_nowait(asked)

    def finish(self) -> None:
        """Nothing more will be asked: say goodbye, or give up coming back."""
        self._finishing.set()
        self._outbox.put_nowait(None)

    async def run(self) -> None:
        """Return after `finish`, or when this server is left out. Raises RunError when that ends the run."""
        while not self._finishing.is_set():
            stream = self.server.connection.stream()
            self.is_open = True
            self._emptied.clear()
            self._desk.opened()
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

    async def _converse(self, stream: ScoreStream) -> None:
        receiving, sending = (asyncio.create_task(end(stream)) for end in (self._receive, self._send))
        emptying = asyncio.create_task(self._end_when_emptied())
        tasks = (receiving, sending, emptying)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.exception():
                await asyncio.wait({receiving}, timeout=GOODBYE_SECONDS)
        finally:
            for handle in self._retries:
                handle.cancel()
            self._retries.clear()
            for task in tasks:
                task.cancel()
            endings = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [ending for ending in endings if isinstance(ending, Exception)]
        # What ends the run goes before what only ends the stream, and a read's reason before a write's.
        for error in sorted(errors, key=lambda error: isinstance(error, StreamLostError)):
            raise error

    async def _send(self, stream: ScoreStream) -> None:
        while (asked := await self._outbox.get()) is not None:
            asked.sent_ns = time.monotonic_ns()
            await stream.send(asked.request)
        await stream.finish()

    async def _receive(self, stream: ScoreStream) -> None:
        while True:
            answer = await stream.receive()
            now = time.monotonic_ns()
            if answer is None:
                if self._finishing.is_set():
                    return
                raise StreamLostError("the server ended it")
            asked = self._unanswered.get(answer.id)
            if asked is None:
                raise RunError(f"{self.server.name} answered request {answer.id!r}, which it was not asked")
            if isinstance(answer, Refusal) and answer.code == "RESOURCE_EXHAUSTED":
                self._ask_later(asked, answer.retry_after)
            elif isinstance(answer, Refusal) and answer.code == "UNAVAILABLE":
                # It drains or lost its engine: what it accepted is still to come, the rest is asked again.
                self.is_open = False
                self._remove(asked)
                self._desk.take_back([asked])
            else:
                self._remove(asked)
                self._barren = 0
                self._desk.settle(self, asked, answer, now)

    def _remove(self, asked: Asked) -> None:
        """The server owes no answer to it any more: after the last of them a closed lane's stream is over."""
        del self._unanswered[asked.request.id]
        if not self.is_open and not self._unanswered:
            self._emptied.set()

    async def _end_when_emptied(self) -> None:
        await self._emptied.wait()
        raise StreamLostError("the server takes no more work")

    def _ask_later(self, asked: Asked, seconds: float | None) -> None:
        """The server's queue is full: keep the place until it may be asked again, here or elsewhere."""

        def ask() -> None:
            self._retries.discard(handle)
            self._remove(asked)
            self._desk.take_back([asked])

        delay = RETRY_SECONDS if seconds is None else seconds
        handle = asyncio.get_running_loop().call_later(delay, ask)
        self._retries.add(handle)

    async def _recover(self, loss: StreamLostError) -> bool:
        """Give back what is open and wait for the server. False: it is left out from now on."""
        lost_ns = time.monotonic_ns()
        self.is_open = False
        self._barren += 1
        open_requests = list(self._unanswered.values())
        self._unanswered.clear()
        self._outbox = asyncio.Queue()
        self._desk.take_back(open_requests)
        self._say(
            f"the stream to {self.server.name} broke ({loss}); "
            f"asking its {len(open_requests)} open requests again"
        )
        try:
            if self._barren >= BARREN_STREAMS:
                raise RunError(f"the server broke {self._barren} streams in a row without an answer: {loss}")
            await self._come_back()
        except RunError as error:
            self.left_out = True
            if self._desk.is_last(self):
                raise
            self._say(f"{self.server.name} is left out from now on: {error}")
            return False
        finally:
            self.outages.append(Outage(self.server.name, lost_ns, time.monotonic_ns()))
        return True

    async def _come_back(self) -> None:
        waiting = asyncio.create_task(self.server.connection.wait_for_model(self._server_timeout))
        finishing = asyncio.create_task(self._finishing.wait())
        try:
            await asyncio.wait({waiting, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                return
            model = waiting.result()
        finally:
            waiting.cancel()
            finishing.cancel()
            await asyncio.gather(waiting, finishing, return_exceptions=True)
        if (difference := self.server.model.difference(model)) is not None:
            raise RunError(
                f"{self.server.name} came back with another model or engine ({difference}): "
                "its answers do not belong to this run"
            )
        try:
            self._desk.came_back(replace(self.server, model=model))
        except ClientError as error:
            raise RunError(f"{self.server.name} came back as it cannot be used: {error}") from None
