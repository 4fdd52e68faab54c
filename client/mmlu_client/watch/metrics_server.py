"""The HTTP server of a run's metrics, and how long it stays up after the run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from mmlu_client.errors import InputError
from mmlu_client.watch.prometheus import CollectorRegistry, make_wsgi_app
from mmlu_client.watch.scrape_server import ScrapeServer

# A recording rule is evaluated between two scrapes, so it has the last figures once they were scraped twice.
LAST_SCRAPES = 2
# Scrapes come at regular intervals; half an interval more is left for one that is late.
LATE = 1.5
LONGEST_INTERVAL = 60.0
POLL_SECONDS = 0.05
# Prometheus and programs that scrape like it send this header, browsers do not. The timeout is never longer
# than the interval.
TIMEOUT = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"


class MetricsServer:
    """Serves a run's metrics until it is closed."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Answer scrapes from now on.

        Raises:
            InputError: The port cannot be listened on.
        """
        try:
            self._server = ScrapeServer(host, port)
        except OSError as error:
            raise InputError(f"--metrics-port {port}: cannot listen on {host}: {error.strerror}") from None
        self._answer = make_wsgi_app(registry)
        self._server.set_app(self._note)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        # The monotonic seconds of the last scrapes, and the scrape timeout.
        self._scrapes: deque[float] = deque(maxlen=LAST_SCRAPES)
        self._timeout = 0.0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    @property
    def patience(self) -> float:
        """The seconds in which LAST_SCRAPES scrapes should come; 0 where no Prometheus has come yet."""
        if not self._scrapes:
            return 0.0
        between = self._scrapes[-1] - self._scrapes[0]
        return min(max(between, self._timeout), LONGEST_INTERVAL) * LAST_SCRAPES * LATE

    async def wait_for_last_scrapes(self, is_stopped: Callable[[], bool]) -> None:
        """Wait until Prometheus has scraped the present figures, for `patience` seconds at most."""
        now = time.monotonic()
        deadline = now + self.patience
        while time.monotonic() < deadline and not is_stopped():
            if len(self._scrapes) == LAST_SCRAPES and self._scrapes[0] > now:
                return
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _note(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        came = time.monotonic()
        body = self._answer(environ, start_response)
        if TIMEOUT in environ:
            self._timeout = _seconds(environ[TIMEOUT])
            self._scrapes.append(came)
        return body


def _seconds(text: str) -> float:
    """Return the number in a header; 0 for what is no number, or not a time."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0
