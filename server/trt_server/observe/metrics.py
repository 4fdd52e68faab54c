"""The metrics that Prometheus scrapes, by their subject.

Every counter that a ratio needs is there, so that a dashboard can compute rates of its own. A scrape waits
for nothing: the engine's thread never holds a lock that it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from trt_server.observe.engine_metrics import EngineMetrics
from trt_server.observe.model_metrics import ModelMetrics
from trt_server.observe.port_metrics import PortMetrics
from trt_server.observe.prometheus import CollectorRegistry
from trt_server.observe.request_metrics import RequestMetrics


class Metrics:
    """One server's metrics.

    Attributes:
        registry: What is scraped: theirs alone.
        model: Of the model, its devices, and whether it is served.
        requests: Of requests, and of their memory.
        engines: Of engines, their queues, peaks and prefixes.
        ports: Of connections and certificates.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at 0.

        Args:
            clock: Returns seconds.
        """
        self.registry = CollectorRegistry()
        self.model = ModelMetrics(self.registry)
        self.requests = RequestMetrics(self.registry)
        self.engines = EngineMetrics(self.registry, clock)
        self.ports = PortMetrics(self.registry)
