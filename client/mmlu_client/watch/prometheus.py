"""prometheus_client as a program of one process needs it; this is the only module that imports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import trt_common.metrics_of_one_process  # noqa: F401

# isort: split
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
)
from prometheus_client import make_wsgi_app as _make_wsgi_app
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

WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# The versions of its formats that the library can be asked for: it fails on what is no number of a version.
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){2}", re.ASCII)


def make_wsgi_app(registry: CollectorRegistry) -> WsgiApp:
    """Return an application that tells a registry in the format that is asked for.

    Where a header asks for a version that is none, the registry is told in Prometheus' text format.
    """
    tell: WsgiApp = _make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        formats = environ.get("HTTP_ACCEPT", "").split(",")
        taken = ",".join(each for each in formats if _is_understood(each))
        return tell({**environ, "HTTP_ACCEPT": taken}, start_response)

    return app


def _is_understood(accepted: str) -> bool:
    parameters = (each.strip().partition("=") for each in accepted.split(";"))
    return all(_VERSION.fullmatch(value) for name, _, value in parameters if name == "version")
