"""The environment's variables that say something to this program."""

from __future__ import annotations

import os
import re

# What Kubernetes says of services: of one called `mmlu-client-metrics` in MMLU_CLIENT_METRICS_PORT.
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")


def set_variables() -> dict[str, str]:
    """Those that are not empty: `VAR=` in an env file and `${VAR:-}` in a composition set nothing.

    Without the addresses of services that Kubernetes puts into `…_PORT`.
    """
    return {name: value for name, value in os.environ.items() if value.strip() and not _is_link(name, value)}


def _is_link(name: str, value: str) -> bool:
    return name.endswith("_PORT") and SERVICE_LINK.match(value) is not None
