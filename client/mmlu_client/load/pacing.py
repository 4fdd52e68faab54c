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
    """Says when requests are due, in nanoseconds of the monotonic clock."""

    def start(self, now: int) -> None:
        """Begin at this moment."""
        ...

    async def next_due(self) -> int:
        """Return when another request is due, which may be in the future.

        Waits where that is not known yet.
        """
        ...

    def answered(self, now: int) -> None:
        """Take note that a request has its answer."""
        ...


class ClosedLoop:
    """Keeps a fixed number of requests in flight: one is due as soon as another has its answer."""

    def __init__(self, concurrency: int) -> None:
        """Keep `concurrency` requests in flight."""
        self._concurrency = concurrency
        self._slots: deque[int] = deque()
        self._slot_freed = asyncio.Event()

    def start(self, now: int) -> None:
        """Make `concurrency` requests due at this moment."""
        self._slots = deque([now] * self._concurrency)

    async def next_due(self) -> int:
        """Wait until fewer than `concurrency` requests are in flight, and return since when."""
        while not self._slots:
            self._slot_freed.clear()
            await self._slot_freed.wait()
        return self._slots.popleft()

    def answered(self, now: int) -> None:
        """Make another request due."""
        self._slots.append(now)
        self._slot_freed.set()


class OpenLoop:
    """Makes requests due at their times, whether earlier ones have their answers or not."""

    def __init__(self, rate: float, pattern: ArrivalPattern, seed: int) -> None:
        """Draw the intervals between requests. See `arrival_intervals`."""
        self._intervals = arrival_intervals(rate, pattern, seed)
        self._due = 0

    def start(self, now: int) -> None:
        """Count the intervals from this moment."""
        self._due = now

    async def next_due(self) -> int:
        """Return when the next request arrives."""
        self._due += round(next(self._intervals) * 1e9)
        return self._due

    def answered(self, now: int) -> None:
        """Do nothing: arrivals do not depend on answers."""


class Offline:
    """Makes every request due at the start; the servers' windows limit how many are in flight."""

    def __init__(self) -> None:
        self._start = 0

    def start(self, now: int) -> None:
        """Make everything due at this moment."""
        self._start = now

    async def next_due(self) -> int:
        """Return the start."""
        return self._start

    def answered(self, now: int) -> None:
        """Do nothing: every request is due already."""


def arrival_intervals(rate: float, pattern: ArrivalPattern, seed: int) -> Iterator[float]:
    """Yield the seconds before each arrival, without end.

    The first request comes at once, as in MLPerf's LoadGen.

    Args:
        rate: requests a second.
        pattern: `constant` for equal intervals, `poisson` for exponentially distributed ones.
        seed: of the random intervals.
    """
    law = random.Random(seed)
    later = itertools.repeat(1 / rate) if pattern == "constant" else _exponential(law, rate)
    return itertools.chain([0.0], later)


def _exponential(law: random.Random, rate: float) -> Iterator[float]:
    while True:
        yield law.expovariate(rate)
