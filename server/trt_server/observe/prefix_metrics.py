"""The memory of shared prefixes."""

from __future__ import annotations

from typing import Any

from trt_server.engines.prefix_store import PrefixStore
from trt_server.observe.prometheus import CollectorRegistry, Gauge


class PrefixMetrics:
    """Reads prefix stores at each scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._used = Gauge(
            "trt_server_prefix_cache_bytes",
            "Device memory that shared prefixes take.",
            ["engine", "device"],
            registry=registry,
        )
        self._limit = Gauge(
            "trt_server_prefix_cache_limit_bytes",
            "Device memory that shared prefixes may take.",
            ["engine", "device"],
            registry=registry,
        )

    def describe(self, engine: str, device: str, store: PrefixStore[Any]) -> None:
        """Read the store of an engine on one of its devices from now on, and tell how much it holds."""
        self._used.labels(engine, device).set_function(lambda: store.used_bytes)
        self._limit.labels(engine, device).set(store.limit_bytes)
