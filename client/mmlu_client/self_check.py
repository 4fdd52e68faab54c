"""Whether the client kept up: what it measures of itself while it runs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

TICK_SECONDS = 0.02
# From these shares on the client, not the server, is what was measured.
LATE_SHARE = 0.10
LAG_SHARE = 0.25


class LoopLag:
    """How late the event loop runs what is due: an asyncio context manager around the load."""

    def __init__(self) -> None:
        self.worst_ns = 0
        self.late_ns = 0
        self.elapsed_ns = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoopLag:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            due = time.monotonic_ns() + round(TICK_SECONDS * 1e9)
            await asyncio.sleep(TICK_SECONDS)
            late = max(0, time.monotonic_ns() - due)
            self.worst_ns = max(self.worst_ns, late)
            self.late_ns += late
            self.elapsed_ns += round(TICK_SECONDS * 1e9) + late


@dataclass(frozen=True)
class SelfCheck:
    """late_share: of the requests' time from ready to reply, what they waited for the client to send them.
    lag_share: of the run, how far the event loop was behind. starved_share: of the run, how long requests
    that were due waited for their prompts. lag_worst: seconds.
    """

    late_share: float
    lag_share: float
    lag_worst: float
    starved_share: float

    @property
    def is_bottleneck(self) -> bool:
        return self.late_share > LATE_SHARE or self.lag_share > LAG_SHARE

    def statement(self) -> str:
        measured = (
            f"requests stood ready for {self.late_share:.1%} of their time, the event loop was "
            f"{self.lag_share:.1%} behind (at worst {self.lag_worst * 1e3:.0f} ms), "
            f"prompts were waited for {self.starved_share:.1%} of the run"
        )
        if self.is_bottleneck:
            return f"THE CLIENT WAS A BOTTLENECK, the server could do more: {measured}"
        return f"the client kept up: {measured}"
