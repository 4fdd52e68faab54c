"""Whether the client kept up: what it measures of itself while it runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

TICK_NS = 20_000_000
# The event loop's timers are this coarse: so late is on time.
TIMER_NS = 1_000_000
# From these shares on the client, not the server, is what was measured: where a tenth of a request's time
# is the client's, so is a tenth of its latency; a loop busy for nine tenths of a run has no more to give.
LATE_SHARE = 0.10
LAG_SHARE = 0.10
BUSY_SHARE = 0.90


class LoopWatch:
    """How late the event loop runs what is due, and how busy its thread is: an asyncio context manager around
    the load, in the loop's own thread."""

    def __init__(self) -> None:
        self._worst_ns = 0
        self._late_ns = 0
        self._ticks = 0
        self._started = self._ended = (0, 0)
        self._task: asyncio.Task[None] | None = None

    def as_json(self) -> dict[str, float]:
        wall, cpu = (after - before for before, after in zip(self._started, self._ended, strict=True))
        return {
            "lag_mean_seconds": self._late_ns / self._ticks / 1e9 if self._ticks else 0.0,
            "lag_worst_seconds": self._worst_ns / 1e9,
            "busy_share": cpu / wall if wall else 0.0,
        }

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
    """Nanoseconds: the wall's, and those that this thread computed."""
    return time.monotonic_ns(), time.thread_time_ns()


@dataclass(frozen=True)
class SelfCheck:
    """late_share: of the requests' time from ready to reply, what they waited for the client to send them.
    lag_share: the event loop's mean lateness, of a request's mean time from sent to reply. busy_share: of the
    run, how long its thread computed. starved_share: of the run, how long requests that were due waited for
    their prompts; it is in late_share too. lag_mean, lag_worst: seconds.
    """

    late_share: float
    lag_share: float
    lag_mean: float
    lag_worst: float
    busy_share: float
    starved_share: float

    @property
    def is_bottleneck(self) -> bool:
        return bool(self._beyond())

    def statement(self) -> str:
        measured = (
            f"requests stood ready and unsent for {self.late_share:.1%} of their time, the event loop was "
            f"{self.lag_mean * 1e3:.1f} ms late on average, {self.lag_share:.1%} of a request's time "
            f"(at worst {self.lag_worst * 1e3:.0f} ms), and busy for {self.busy_share:.0%} of the run; "
            f"prompts were waited for {self.starved_share:.1%} of it"
        )
        if beyond := self._beyond():
            return (
                f"THE CLIENT WAS A BOTTLENECK ({', '.join(beyond)}): part of what was measured is the "
                f"client, or what else kept this machine busy; {measured}"
            )
        return f"the client kept up: {measured}"

    def _beyond(self) -> list[str]:
        limits = (
            ("late sends", self.late_share, LATE_SHARE),
            ("event-loop lag", self.lag_share, LAG_SHARE),
            ("busy event loop", self.busy_share, BUSY_SHARE),
        )
        return [f"{name} over {limit:.0%}" for name, share, limit in limits if share > limit]
