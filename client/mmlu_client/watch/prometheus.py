"""prometheus_client as a program of one process needs it; this is the only module that imports it."""

from __future__ import annotations

import os

# prometheus_client reads these variables as it is imported. Left over from another program, they would make
# it keep each metric in a file of that folder.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
os.environ.pop("prometheus_multiproc_dir", None)

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
