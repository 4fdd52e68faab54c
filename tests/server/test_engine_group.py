"""Between the queue and the engines: nobody waits for ever, and an engine finds its next batch."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from instant_engine import Instant
from trt_server.errors import EngineLostError, ScoringError
from trt_server.scheduling import assembler
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.group import EngineGroup
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.request import ScoringRequest
from trt_server.scheduling.work import Work

SECONDS = 20


class Group:
    """A group with one engine behind a queue; `lost` holds what it was told of lost engines."""

    def __init__(self, engine: Instant) -> None:
        self.lost: list[str] = []
        self.requests = RequestQueue(64)
        batching = Batching(1, 10**6, 0.0)
        self._group = EngineGroup(
            [lambda: engine], ["none"], self.requests, batching, lambda _: None, self.lost.append
        )

    async def __aenter__(self) -> Group:
        await self._group.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.requests.drain()
        await asyncio.wait_for(self._group.finish(), SECONDS)

    def ask(self) -> asyncio.Future[Any]:
        prompt = TokenPrompt(np.array([1, 2], np.int32), np.array([1], np.int32))
        request = ScoringRequest([prompt], 100)
        self.requests.put(request)
        return request.result


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, SECONDS))


def test_a_batch_that_cannot_be_assembled_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [MemoryError()]

    def work(requests: list[ScoringRequest], batching: Batching) -> Work:
        if failures:
            raise failures.pop()
        return Work(requests, batching)

    monkeypatch.setattr(assembler, "Work", work)

    async def test() -> None:
        async with Group(Instant()) as group:
            with pytest.raises(ScoringError, match="could not be assembled: MemoryError"):
                await group.ask()
            await group.ask()
            assert not group.lost

    run(test())


def test_a_fault_after_a_batch_refuses_it_alone() -> None:
    async def test() -> None:
        async with Group(Instant()) as group:
            told = group.requests.speed.record

            def fail(*_: float) -> None:
                group.requests.speed.record = told  # type: ignore[method-assign]
                raise MemoryError

            group.requests.speed.record = fail  # type: ignore[assignment,method-assign]
            with pytest.raises(ScoringError, match="failed on this batch: MemoryError"):
                await group.ask()
            await group.ask()
            assert not group.lost

    run(test())


class Faulty(Instant):
    """Its depth can be told to the group and until a batch runs, and never again."""

    told = 0

    @property
    def depth(self) -> int:
        self.told += 1
        if self.told > 3:
            raise MemoryError
        return 2

    @depth.setter
    def depth(self, _: int) -> None: ...


def test_an_engines_thread_that_ends_leaves_nobody_waiting() -> None:
    async def test() -> None:
        async with Group(Faulty()) as group:
            with pytest.raises(EngineLostError, match="the engine's thread failed: MemoryError"):
                await group.ask()
            with pytest.raises(EngineLostError):
                group.ask()
            assert len(group.lost) == 1

    run(test())


def test_an_assembler_that_ends_leaves_nobody_waiting() -> None:
    async def test() -> None:
        group, asked = Group(Instant()), threading.Event()

        def take(_: Batching) -> list[ScoringRequest]:
            asked.wait(SECONDS)
            raise MemoryError

        group.requests.take = take  # type: ignore[assignment,method-assign]
        async with group:
            waiting = [group.ask() for _ in range(3)]
            asked.set()
            for result in waiting:
                with pytest.raises(EngineLostError, match="the assembler failed: MemoryError"):
                    await result
            with pytest.raises(EngineLostError):
                group.ask()
            assert len(group.lost) == 1

    run(test())


def test_an_engine_that_holds_two_batches_finds_the_next_one_ready() -> None:
    """One batch is on its way into the engine and two are ready: of eight requests five wait in the queue."""

    async def test() -> None:
        drained, third_taken = threading.Event(), asyncio.Event()
        loop, takes = asyncio.get_running_loop(), itertools.count(1)

        def submitted() -> None:
            assert drained.wait(SECONDS)

        group = Group(Instant(submitted, depth=2))
        take = group.requests.take

        def counted(batching: Batching) -> list[ScoringRequest]:
            requests = take(batching)
            if next(takes) == 3:
                loop.call_soon_threadsafe(third_taken.set)
            return requests

        group.requests.take = counted  # type: ignore[method-assign]
        async with group:
            waiting = [group.ask() for _ in range(8)]
            await third_taken.wait()
            assert group.requests.depth == 5
            drained.set()
            await asyncio.wait(waiting)

    run(test())
