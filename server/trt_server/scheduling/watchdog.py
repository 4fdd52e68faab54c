"""Watches for batches that never come back: a call into a driver that hangs takes its engine with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOKS = 20
_MOST_SECONDS_BETWEEN_LOOKS = 1.0


class Watchdog:
    """A thread that looks at the engines, whatever the event loop does."""

    def __init__(
        self,
        stalled: Callable[[], str | None],
        timeout: float,
        exit_seconds: float,
        on_stall: Callable[[str], None],
        on_recovery: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Prepare to watch.

        Args:
            stalled: Returns what is wrong; None: nothing is.
            timeout: Seconds that a batch takes at least before something is wrong.
            exit_seconds: So long after something is found wrong it is over.
            on_stall: Called once with what is wrong, in the watchdog's thread.
            on_recovery: Called when nothing is wrong any more.
            on_end: Called when it is over, with what is wrong; the watch ends with it.
        """
        self._stalled = stalled
        self._exit_seconds = exit_seconds
        self._look_seconds = min(_MOST_SECONDS_BETWEEN_LOOKS, timeout / _LOOKS)
        self._on_stall = on_stall
        self._on_recovery = on_recovery
        self._on_end = on_end

    def start(self) -> None:
        """Watch until the process ends."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        since: float | None = None
        while True:
            time.sleep(self._look_seconds)
            reason = self._stalled()
            if reason is None:
                if since is not None:
                    self._on_recovery()
                since = None
            elif since is None:
                since = time.monotonic()
                self._on_stall(reason)
            elif time.monotonic() - since >= self._exit_seconds:
                self._on_end(reason)
                return
