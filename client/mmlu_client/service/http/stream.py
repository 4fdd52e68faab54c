"""Requests over HTTP as a stream: each is asked on its own, and answers come as they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mmlu_client.errors import RunError, StreamLostError
from mmlu_client.service.messages import Refusal, Reply, Request

# After so long without an answer the server is asked whether it is there: a host that vanished says nothing.
SILENCE_SECONDS = 60.0

Outcome = Reply | Refusal | RunError | StreamLostError | None


class HttpStream:
    """Asks requests side by side. See `AnswerStream`."""

    def __init__(
        self,
        score: Callable[[Request], Awaitable[Reply | Refusal]],
        is_alive: Callable[[], Awaitable[bool]],
    ) -> None:
        """Begin to watch for silence.

        Args:
            score: asks one request.
            is_alive: asks the server whether it is there, when it sent no answer for a while.
        """
        self._score = score
        self._is_alive = is_alive
        self._asking: set[asyncio.Task[None]] = set()
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self._is_finishing = False
        self._answers = 0
        self._watch = asyncio.create_task(self._watch_silence())

    async def send(self, request: Request) -> None:
        """Ask a request; its answer is waited for beside those of others."""
        task = asyncio.create_task(self._ask(request))
        self._asking.add(task)
        task.add_done_callback(self._asked)

    async def receive(self) -> Reply | Refusal | None:
        """Return the next answer; None when no more requests come and all are answered."""
        outcome = await self._outcomes.get()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def finish(self) -> None:
        """Take note that no more requests will come."""
        self._is_finishing = True
        if not self._asking:
            self._outcomes.put_nowait(None)

    def close(self) -> None:
        """Give up what is not answered yet."""
        for task in (*self._asking, self._watch):
            task.cancel()

    async def _ask(self, request: Request) -> None:
        try:
            outcome: Outcome = await self._score(request)
        except (RunError, StreamLostError) as error:
            outcome = error
        self._answers += 1
        self._outcomes.put_nowait(outcome)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._outcomes.put_nowait(RunError(f"asking failed: {type(error).__name__}: {error}"))
        if self._is_finishing and not self._asking:
            self._outcomes.put_nowait(None)

    async def _watch_silence(self) -> None:
        seen = -1
        while seen != self._answers or not self._asking or await self._is_alive():
            seen = self._answers
            await asyncio.sleep(SILENCE_SECONDS)
        self._outcomes.put_nowait(StreamLostError("the server fell silent"))
