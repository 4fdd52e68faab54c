"""Keeps requests in flight until every question has its answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from mmlu_client.connection import Connection, ScoreStream
from mmlu_client.errors import RunError, StreamLostError
from mmlu_client.exchange import Refusal, Reply, Request
from mmlu_client.model import ServedModel
from mmlu_client.request_source import RequestSource

BARREN_STREAMS = 5
RETRY_SECONDS = 0.5
GOODBYE_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """A request and what came back; times are this machine's monotonic clock, in nanoseconds."""

    request: Request
    outcome: Reply | Refusal
    sent_ns: int
    received_ns: int


@dataclass
class Open:
    """A request that waits for its answer."""

    request: Request
    sent_ns: int


class Load:
    """Asks what the source gives, `window` requests at a time, and hands each answer on.

    interruptions: how often the stream was lost; outage_ns: how long, together, until the next one stood.
    """

    def __init__(
        self,
        connection: Connection,
        source: RequestSource,
        model: ServedModel,
        window: int,
        server_timeout: float,
        on_answer: Callable[[Answer], None],
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._source = source
        self._model = model
        self._window = window
        self._server_timeout = server_timeout
        self._on_answer = on_answer
        self._say = say
        self._unanswered: dict[str, Open] = {}
        self._turned_away: set[str] = set()
        self._retries: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._exhausted = False
        self._barren = 0
        self.interruptions = 0
        self.outage_ns = 0
        self.last_received_ns: int | None = None

    async def run(self) -> None:
        """Return when everything is answered. Raises RunError when the server is gone for good."""
        while not self._finished:
            stream = self._connection.stream()
            try:
                await self._converse(stream)
            except StreamLostError as loss:
                if not self._finished:
                    await self._recover(loss)
            finally:
                stream.close()

    @property
    def _finished(self) -> bool:
        return self._exhausted and not self._unanswered

    async def _converse(self, stream: ScoreStream) -> None:
        sending, receiving = (asyncio.create_task(end(stream)) for end in (self._send, self._receive))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.exception():
                await asyncio.wait({receiving}, timeout=GOODBYE_SECONDS)
        finally:
            tasks = [receiving, sending, *self._retries]
            for task in tasks:
                task.cancel()
            endings = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [ending for ending in endings if isinstance(ending, Exception)]
        # What ends the run goes before what only ends the stream.
        for error in sorted(errors, key=lambda error: isinstance(error, StreamLostError)):
            raise error

    async def _send(self, stream: ScoreStream) -> None:
        """What an earlier stream left unanswered, then what is new; returns when all is answered."""
        self._turned_away.clear()
        for asked in list(self._unanswered.values()):
            asked.sent_ns = time.monotonic_ns()
            await stream.send(asked.request)
        while not self._exhausted:
            await self._wait_while(self._is_full)
            request = await self._source.next()
            if request is None:
                self._exhausted = True
                break
            self._unanswered[request.id] = Open(request, time.monotonic_ns())
            await stream.send(request)
        await self._wait_while(self._is_waiting)
        await stream.finish()

    def _is_full(self) -> bool:
        return len(self._unanswered) >= self._window

    def _is_waiting(self) -> bool:
        return bool(self._unanswered)

    async def _wait_while(self, condition: Callable[[], bool]) -> None:
        while condition():
            self._room.clear()
            await self._room.wait()

    async def _receive(self, stream: ScoreStream) -> None:
        while True:
            answer = await stream.receive()
            now = time.monotonic_ns()
            if answer is None:
                if self._finished:
                    return
                raise StreamLostError("the server ended it")
            asked = self._unanswered.get(answer.id)
            if asked is None:
                raise RunError(f"the server answered request {answer.id!r}, which was not asked")
            if isinstance(answer, Refusal) and answer.code == "RESOURCE_EXHAUSTED":
                self._ask_later(stream, asked, answer.retry_after)
            elif isinstance(answer, Refusal) and answer.code == "UNAVAILABLE":
                # It drains or lost its engine: what it accepted is still to come, the rest is asked later.
                self._turned_away.add(answer.id)
            else:
                self._settle(asked, answer, now)
            if self._unanswered and self._turned_away.issuperset(self._unanswered):
                raise StreamLostError("the server takes no more work")

    def _settle(self, asked: Open, outcome: Reply | Refusal, now: int) -> None:
        self._on_answer(Answer(asked.request, outcome, asked.sent_ns, now))
        del self._unanswered[asked.request.id]
        self.last_received_ns = now
        self._barren = 0
        self._room.set()

    def _ask_later(self, stream: ScoreStream, asked: Open, seconds: float | None) -> None:
        """The server's queue is full: keep the place in the window and ask again when it says."""

        async def ask() -> None:
            await asyncio.sleep(RETRY_SECONDS if seconds is None else seconds)
            asked.sent_ns = time.monotonic_ns()
            with contextlib.suppress(StreamLostError):  # then _receive hears of it too, and it is asked anew
                await stream.send(asked.request)

        retry = asyncio.create_task(ask())
        self._retries.add(retry)
        retry.add_done_callback(self._retries.discard)

    async def _recover(self, loss: StreamLostError) -> None:
        lost_ns = time.monotonic_ns()
        self.interruptions += 1
        self._barren += 1
        if self._barren >= BARREN_STREAMS:
            raise RunError(f"the server broke {self._barren} streams in a row without an answer: {loss}")
        self._say(f"the stream broke ({loss}); asking its {len(self._unanswered)} open requests again")
        try:
            self._check_same(await self._connection.wait_for_model(self._server_timeout))
        finally:
            self.outage_ns += time.monotonic_ns() - lost_ns

    def _check_same(self, model: ServedModel) -> None:
        if not model.same_answers(self._model):
            raise RunError(
                f"the server came back with another model or engine ({model.id}, {model.engine.name}): "
                "its answers do not belong to this run"
            )
