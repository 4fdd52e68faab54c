"""What becomes of the server when a batch does not come back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from trt_server import exit_status
from trt_server.loading.loading import LoadedEngine
from trt_server.rpc.health import Health
from trt_server.rpc.scoring import Scoring
from trt_server.scheduling.watchdog import Watchdog
from trt_server.settings import STALL_FACTOR

log = logging.getLogger(__name__)

# For errors that callers are told when the process ends whatever its event loop does.
LAST_WORDS_SECONDS = 1.0


class StallWatch:
    """Takes no new work while a batch does not come back, and ends the process where that does not end."""

    def __init__(
        self,
        engines: Sequence[LoadedEngine],
        health: Health,
        scoring: Scoring,
        timeout: float,
        exit_seconds: float,
    ) -> None:
        """Prepare to watch, on the server's event loop.

        Args:
            engines: Those that are watched.
            health: Is told.
            scoring: Gives up what is unanswered when the process ends.
            timeout: Seconds that a batch takes at least before something is wrong.
            exit_seconds: So long after that the process ends.
        """
        self._engines = engines
        self._health = health
        self._scoring = scoring
        self._timeout = timeout
        self._exit_seconds = exit_seconds
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Watch until the process ends, in a thread."""
        Watchdog(
            self._stalled,
            self._timeout,
            self._exit_seconds,
            on_stall=self._on_stall,
            on_recovery=self._on_recovery,
            on_end=self._end,
        ).start()

    def _on_stall(self, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._stall, reason)

    def _on_recovery(self) -> None:
        self._loop.call_soon_threadsafe(self._recover)

    def _stalled(self) -> str | None:
        reasons = (engine.group.stalled(self._timeout, STALL_FACTOR) for engine in self._engines)
        return next((reason for reason in reasons if reason is not None), None)

    def _stall(self, reason: str) -> None:
        log.error(
            "not serving: %s; if that does not end, the process does in %g s, with status %d",
            reason,
            self._exit_seconds,
            exit_status.STALLED,
        )
        for engine in self._engines:
            engine.queue.refuse(f"the engine does not answer: {reason}")
        self._health.change(serving=False)

    def _recover(self) -> None:
        """Take work again, as the batch has come back after all."""
        if self._health.is_over:
            return
        log.warning("serving again: the batch has come back")
        for engine in self._engines:
            engine.queue.refuse(None)
        self._health.change(serving=True)

    def _end(self, reason: str) -> None:
        """Tell the callers that wait, and end the process, in the watchdog's thread."""
        log.critical("ended with status %d: %s", exit_status.STALLED, reason)
        self._loop.call_soon_threadsafe(self._scoring.give_up, f"the server ends: {reason}: ask another one")
        # The event loop may hang too.
        time.sleep(LAST_WORDS_SECONDS)
        exit_status.leave(exit_status.STALLED)
