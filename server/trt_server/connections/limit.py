"""The most connections that a port holds, and the line that is logged when it is reached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# A port counts as full until it holds fewer than this share of its limit.
ROOM = 0.9
# Of a port that fills again and again there is one line in so long.
QUIET_SECONDS = 60.0


class ConnectionLimit:
    """The most connections that one port holds; says so in one line when they are reached."""

    def __init__(
        self, port: str, most: int, remedy: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with none.

        Args:
            port: What the port is called in the log.
            most: How many it holds.
            remedy: What the log's line says may be done.
            clock: Returns seconds.
        """
        self.port = port
        self.most = most
        self.held = 0
        self._remedy = remedy
        self._clock = clock
        self._full = False
        self._said = -QUIET_SECONDS

    def note(self, held: int) -> None:
        """Take note of how many connections the port holds now."""
        self.held = held
        if held < ROOM * self.most:
            self._full = False
        elif held >= self.most and not self._full:
            self._full = True
            self._say()

    def _say(self) -> None:
        if self._clock() - self._said < QUIET_SECONDS:
            return
        self._said = self._clock()
        log.warning(
            "the %s port holds %d connections, its limit: further ones are closed at once%s",
            self.port,
            self.most,
            f"; {self._remedy}" if self._remedy else "",
            extra={"event": "port_full"},
        )
