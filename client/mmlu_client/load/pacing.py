"""When requests are due: as answers come (closed loop), by the clock (open loop), or all at once."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Iterator
from typing import Literal, Protocol

ArrivalPattern = Literal["poisson", "constant"]


class Pacing(Protocol):
    """Times are nanoseconds of the monotonic clock."""

    def start(self, now: int) -> None: ...

    async def next_due(self) -> int:
        """When another request is due, which may be to come; waits where that is not known yet."""
        ...

    def answered(self, now: int) -> None:
        """Take note that a request has its answer."""
        ...


class ClosedLoop:
    """`concurrency` requests in flight: one is due as soon as another has its answer."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._slots: deque[int] = deque()
        self._slot_freed = asyncio.Event()

    def start(self, now: int) -> None:
        self._slots = deque([now] * self._concurrency)

    async def next_due(self) -> int:
        while not self._slots:
            self._slot_freed.clear()
            await self._slot_freed.wait()
        return self._slots.popleft()

    def answered(self, now: int) -> None:
        self._slots.append(now)
        self._slot_freed.set()


class OpenLoop:
    """Requests come at their times, whether earlier ones have their answers or not."""

    def __init__(self, rate: float, pattern: ArrivalPattern, seed: int) -> None:
        """rate: requests a second, the mean of an exponential law where the pattern is `poisson`."""
        self._intervals = arrival_intervals(rate, pattern, seed)
        self._due = 0

    def start(self, now: int) -> None:
        self._due = now

    async def next_due(self) -> int:
        self._due += round(next(self._intervals) * 1e9)
        return self._due

    def answered(self, now: int) -> None:
        """An open loop waits for nobody."""


class Offline:
    """Everything is due at the start; how much is in flight is the servers' choice."""

    def __init__(self) -> None:
        self._start = 0

    def start(self, now: int) -> None:
        self._start = now

    async def next_due(self) -> int:
        return self._start

    def answered(self, now: int) -> None:
        """Nothing waits for it."""


def arrival_intervals(rate: float, pattern: ArrivalPattern, seed: int) -> Iterator[float]:
    """Seconds before each arrival, without end. The first comes at once, as in MLPerf's LoadGen."""
    law = random.Random(seed)
    later = itertools.repeat(1 / rate) if pattern == "constant" else _exponential(law, rate)
    return itertools.chain([0.0], later)


def _exponential(law: random.Random, rate: float) -> Iterator[float]:
    while True:
        yield law.expovariate(rate)
