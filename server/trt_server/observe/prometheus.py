"""The library prometheus_client, set up for a program of one process; no other module imports it."""

from __future__ import annotations

import trt_common.metrics_of_one_process  # noqa: F401

# isort: split
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = [
    "Collector",
    "CollectorRegistry",
    "Counter",
    "CounterMetricFamily",
    "Gauge",
    "GaugeMetricFamily",
    "Histogram",
    "Info",
    "Metric",
    "make_aiohttp_handler",
]
