"""The library prometheus_client, set up for a program of one process; no other module imports it."""

from __future__ import annotations

import re

import trt_common.metrics_of_one_process  # noqa: F401

# isort: split
from aiohttp import web
from aiohttp.typedefs import Handler
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
    "metrics_handler",
]

# The versions of its formats that the library can be asked for: it fails on what is no number of a version.
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){2}", re.ASCII)


def metrics_handler(registry: CollectorRegistry) -> Handler:
    """Return a handler of aiohttp that tells a registry in the format that is asked for.

    Where a header asks for a version that is none, it is told in Prometheus' text format.
    """
    tell = make_aiohttp_handler(registry)

    async def handle(request: web.Request) -> web.StreamResponse:
        formats = ",".join(request.headers.getall("Accept", [])).split(",")
        taken = ",".join(each for each in formats if _is_understood(each))
        return await tell(request.clone(headers={"Accept": taken}))

    return handle


def _is_understood(accepted: str) -> bool:
    parameters = (each.strip().partition("=") for each in accepted.split(";"))
    return accepted.isascii() and all(
        _VERSION.fullmatch(value) for name, _, value in parameters if name == "version"
    )
