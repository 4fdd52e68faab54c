"""The client's check of itself: whether it limited the run that it measured."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

TICK_NS = 20_000_000
# The resolution of the event loop's timers: this late is on time.
TIMER_NS = 1_000_000
# Above these shares the client was measured as well as the server: if a tenth of a request's time is the
# client's, so is a tenth of its latency; and a loop that is busy for nine tenths of a run has no reserve.
LATE_SHARE = 0.10
LAG_SHARE = 0.10
BUSY_SHARE = 0.90


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

    def as_json(self) -> dict[str, float]:
        """Return the measured times in seconds, and the share of the time in which the thread computed."""
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
    """Return the monotonic time and the processor time of this thread, in nanoseconds."""
    return time.monotonic_ns(), time.thread_time_ns()


@dataclass(frozen=True)
class SelfCheck:
    """What the client measured of itself during a run.

    Attributes:
        late_share: The share of the requests' time, from ready to reply, in which they waited for the client
            to send them.
        lag_share: The event loop's mean lateness, relative to a request's mean time from sent to reply.
        lag_mean: The event loop's mean lateness in seconds.
        lag_worst: The event loop's greatest lateness in seconds.
        busy_share: The share of the run in which the loop's thread computed.
        starved_share: The share of the run in which requests that were due waited for their prompts;
            late_share includes it.
    """

    late_share: float
    lag_share: float
    lag_mean: float
    lag_worst: float
    busy_share: float
    starved_share: float

    @property
    def is_bottleneck(self) -> bool:
        """Whether any share is above its limit."""
        return bool(self._beyond())

    def statement(self) -> str:
        """Return a sentence that says whether the client kept up, with the figures."""
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
