"""The queues that engines are fed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trt_server.observe.prometheus import Collector, CollectorRegistry, CounterMetricFamily, Gauge, Metric
from trt_server.scheduling.queue import NOT_COMPUTED, RequestQueue


class QueueMetrics:
    """Reads each engine's queue at each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queues: dict[str, RequestQueue] = {}
        self._depth = Gauge(
            "trt_server_queue_depth", "Requests waiting for the engine.", ["engine"], registry=registry
        )
        self._limit = Gauge(
            "trt_server_queue_limit", "Requests that may wait for the engine.", ["engine"], registry=registry
        )
        registry.register(_NotComputedCollector(self._queues))

    def describe(self, engine: str, queue: RequestQueue) -> None:
        """Read the queue of the engine of this name from now on, and tell how much it holds."""
        self._depth.labels(engine).set_function(lambda: queue.depth)
        self._limit.labels(engine).set(queue.limit)
        self._queues[engine] = queue


class _NotComputedCollector(Collector):
    """Reads the queues, by the name of their engine, when it is scraped."""

    def __init__(self, queues: Mapping[str, RequestQueue]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "trt_server_requests_not_computed",
            "Requests kept from the engine: refused_late or dropped_late (their deadline could not be met), "
            "abandoned (their caller had left), displaced (by a caller with fewer of them in the queue).",
            labels=["engine", "reason"],
        )
        for engine, queue in list(self._queues.items()):
            for reason in NOT_COMPUTED:
                family.add_metric([engine, reason], queue.not_computed[reason])
        yield family
