"""A server that refuses requests because its queue is full: when each is sent again, and when that ends."""

from __future__ import annotations

import time

from mmlu_client.errors import GivenUpError
from mmlu_client.text import shortest

BACKOFF_SECONDS = 0.5
# A server that asks for no delay is not asked without pause.
LEAST_SECONDS = 0.01
# Nor is one that asks for a longer delay believed to be full for so long.
MOST_SECONDS = 30.0


class FullQueue:
    """Counts one server's refusals, and says how long to wait after each.

    Attributes:
        refusals: how many there were.
    """

    def __init__(self, server: str) -> None:
        """Begin with a server of this name that has refused nothing."""
        self.refusals = 0
        self._server = server
        self._since: float | None = None

    def delay(self, wished: float | None, most: float) -> float:
        """Count a refusal, and say after how many seconds the request is sent again.

        Args:
            wished: the seconds that the server asks for; None where it does not say.
            most: how long it may refuse requests and answer none, in seconds.

        Raises:
            GivenUpError: it has done so for longer.
        """
        self.refusals += 1
        now = time.monotonic()
        if self._since is None:
            self._since = now
        left = self._since + most - now
        if left <= 0:
            raise GivenUpError(
                f"{self._server} refused requests and answered none for {shortest(most)} s, because its "
                "queue is full: ask it when it has less to do, or give a longer --request-timeout"
            )
        delay = BACKOFF_SECONDS if wished is None else max(LEAST_SECONDS, min(wished, MOST_SECONDS))
        return min(delay, left)

    def answered(self) -> None:
        """Take note that the server has answered a request."""
        self._since = None
