"""The MFU of the last seconds, for those who look at a single scrape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trt_server.observe.accounting import mfu

MFU_WINDOW_SECONDS = 10.0


class MfuWindow:
    """Holds FLOPs and core seconds of the requests of the last MFU_WINDOW_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with none.

        Args:
            clock: Returns seconds.
        """
        self._clock = clock
        self._entries: deque[tuple[float, int, float]] = deque()

    def add(self, flops: int, core_seconds: float) -> None:
        """Add those of a request that was computed just now."""
        now = self._clock()
        self._entries.append((now, flops, core_seconds))
        while self._entries[0][0] < now - MFU_WINDOW_SECONDS:
            self._entries.popleft()

    def ratio(self, peak: float) -> float:
        """Return the MFU; 0 where nothing was computed lately, or the peak (FLOP/s) is not known."""
        since = self._clock() - MFU_WINDOW_SECONDS
        recent = [entry for entry in list(self._entries) if entry[0] >= since]
        core_seconds = sum(entry[2] for entry in recent)
        return mfu(sum(entry[1] for entry in recent), core_seconds, peak) if core_seconds and peak else 0.0
