"""The port of a run's or a campaign's metrics, where one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from mmlu_client.watch.metrics_server import MetricsServer
from mmlu_client.watch.prometheus import CollectorRegistry


class ServedMetrics:
    """Serves metrics while it is open, as a context manager."""

    def __init__(
        self, registry: CollectorRegistry, host: str, port: int | None, say: Callable[[str], None]
    ) -> None:
        """Prepare to serve.

        Args:
            registry: holds the metrics.
            host: the address that is listened on.
            port: the port; 0: a free one; None: nothing is served.
            say: prints a line for the person.
        """
        self._registry = registry
        self._host = host
        self._port = port
        self._say = say
        self._server: MetricsServer | None = None

    def __enter__(self) -> ServedMetrics:
        """Open the port, and say where the metrics are.

        Raises:
            InputError: it cannot be opened.
        """
        if self._port is not None:
            self._server = MetricsServer(self._registry, self._host, self._port)
            self._say(f"metrics at http://{self._host}:{self._server.port}/metrics")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def show_last(self, is_stopped: Callable[[], bool]) -> None:
        """Return when Prometheus has read the present figures, or `is_stopped` says so."""
        server = self._server
        if server is None or not server.patience or is_stopped():
            return
        self._say(f"up to {server.patience:.0f} s more for Prometheus to read the last figures (Ctrl-C: not)")
        await server.wait_for_last_scrapes(is_stopped)
