"""Events that come in great numbers, told in one line a minute."""

from __future__ import annotations

import logging
import time

_SECONDS = 60.0


class Tally:
    """Counts events, and warns of the first at once and of the next once a minute."""

    def __init__(self, log: logging.Logger, text: str) -> None:
        """Begin at none.

        Args:
            log: Where the lines go.
            text: Of a line, with %d for how many there were since the last one.
        """
        self._log = log
        self._text = text
        self._count = 0
        self._told = -_SECONDS

    def add(self) -> None:
        """Count one."""
        self._count += 1
        if time.monotonic() - self._told >= _SECONDS:
            self.tell()

    def tell(self) -> None:
        """Write the line now, where there is something to tell."""
        if self._count:
            self._log.warning(self._text, self._count)
            self._count, self._told = 0, time.monotonic()
