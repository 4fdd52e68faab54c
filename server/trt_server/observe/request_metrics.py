"""Requests by how they ended, and the memory that they take."""

from __future__ import annotations

from trt_server.observe.prometheus import CollectorRegistry, Counter, Gauge
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.status import Status


class RequestMetrics:
    """Counts requests of every port."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "trt_server_requests", "Requests answered, by gRPC status code.", ["code"], registry=registry
        )
        for status in Status:
            # From 0, or a rate would miss the first of its kind.
            self._requests.labels(status.value)
        self._memory = Gauge(
            "trt_server_request_memory_bytes",
            "Memory that requests take, from their first byte to their answer.",
            registry=registry,
        )
        self._memory_limit = Gauge(
            "trt_server_request_memory_limit_bytes", "Memory that requests may take.", registry=registry
        )

    def describe_budget(self, budget: ByteBudget) -> None:
        """Read at each scrape how much memory requests take, and tell how much they may."""
        self._memory.set_function(lambda: budget.used)
        self._memory_limit.set(budget.limit)

    def count(self, status: Status) -> None:
        """Count a request that was answered with this status."""
        self._requests.labels(status.value).inc()
