"""The ports: their connections, and when the certificates that they show expire."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trt_server.observe.prometheus import CollectorRegistry, Gauge


class PortMetrics:
    """Reads at each scrape what the ports hold."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connections = Gauge(
            "trt_server_connections", "Connections that a port holds.", ["port"], registry=registry
        )
        self._connections_limit = Gauge(
            "trt_server_connections_limit", "Connections that a port may hold.", ["port"], registry=registry
        )
        self._certificate_expiry = Gauge(
            "trt_server_certificate_expiry_timestamp_seconds",
            "When the server's certificate expires, and the first of its clients' authorities.",
            ["of"],
            registry=registry,
        )

    def describe(self, port: str, most: int, held: Callable[[], int]) -> None:
        """Set how many connections a port may hold, and read at each scrape how many it holds.

        Args:
            port: Its name.
            most: Its limit.
            held: Returns how many it holds.
        """
        self._connections_limit.labels(port).set(most)
        self._connections.labels(port).set_function(held)

    def describe_certificates(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        """Read at each scrape when certificates expire.

        Args:
            expiries: Returns that in seconds since 1970, by what the certificate is for.
        """

        def watch(name: str) -> None:
            self._certificate_expiry.labels(name).set_function(lambda: expiries()[name])

        for name in expiries():
            watch(name)
