"""How late and how busy the client's own event loop is while a run is on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

TICK_NS = 20_000_000
# The resolution of the event loop's timers: this late is on time.
TIMER_NS = 1_000_000


@dataclass(frozen=True)
class LoopLoad:
    """How late and how busy an event loop was.

    Attributes:
        lag_mean_seconds: its mean lateness.
        lag_worst_seconds: its greatest lateness.
        busy_share: the share of the time in which its thread computed.
    """

    lag_mean_seconds: float
    lag_worst_seconds: float
    busy_share: float


class LoopWatch:
    """Measures how late the event loop runs what is due, and how busy its thread is.

    It is an asyncio context manager around the load, in the loop's own thread.
    """

    def __init__(self) -> None:
        self._worst_ns = 0
        self._late_ns = 0
        self._ticks = 0
        self._started = self._ended = (0, 0)
        self._task: asyncio.Task[None] | None = None

    @property
    def load(self) -> LoopLoad:
        """What was measured so far."""
        wall, cpu = (after - before for before, after in zip(self._started, self._ended, strict=True))
        return LoopLoad(
            lag_mean_seconds=self._late_ns / self._ticks / 1e9 if self._ticks else 0.0,
            lag_worst_seconds=self._worst_ns / 1e9,
            busy_share=cpu / wall if wall else 0.0,
        )

    async def __aenter__(self) -> LoopWatch:
        self._started = self._ended = _clocks()
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = _clocks()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = time.monotonic_ns() + TICK_NS
            await asyncio.sleep(TICK_NS / 1e9)
            late = max(0, time.monotonic_ns() - due - TIMER_NS)
            self._worst_ns = max(self._worst_ns, late)
            self._late_ns += late
            self._ticks += 1


def _clocks() -> tuple[int, int]:
    """Return the monotonic time and the processor time of this thread, in nanoseconds."""
    return time.monotonic_ns(), time.thread_time_ns()
