"""prometheus_client as a program of one process needs it; this is the only module that imports it."""

from __future__ import annotations

import trt_common.metrics_of_one_process  # noqa: F401

# isort: split
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    make_wsgi_app,
)
from prometheus_client.parser import text_string_to_metric_families

__all__ = [
    "CollectorRegistry",
    "Counter",
    "Gauge",
    "Histogram",
    "Info",
    "make_wsgi_app",
    "text_string_to_metric_families",
]
