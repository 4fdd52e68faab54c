"""The environment's variables that say something to this program."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from trt_common.command_line.nearest import suggestion

# What Kubernetes says of services: of one called `mmlu-client-metrics` in MMLU_CLIENT_METRICS_PORT,
# MMLU_CLIENT_METRICS_SERVICE_HOST, MMLU_CLIENT_METRICS_PORT_8002_TCP_ADDR and more of their like.
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
SERVICE_NAME = re.compile(r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")


def set_variables() -> dict[str, str]:
    """Those that are not empty: `VAR=` in an env file and `${VAR:-}` in a composition set nothing.

    Without what Kubernetes says of services.
    """
    return {name: value for name, value in os.environ.items() if value.strip() and not _is_link(name, value)}


def unknown_variables(program: str, prefix: str, known: Collection[str]) -> list[str]:
    """A line on each variable that begins with `prefix` and is none of `known`: probably a misspelt one."""
    return [
        f"the variable {name} is none of {program}'s and sets nothing{suggestion(name, known, prefix)}"
        for name in sorted(set_variables())
        if name.startswith(prefix) and name not in known
    ]


def _is_link(name: str, value: str) -> bool:
    is_address = name.endswith("_PORT") and SERVICE_LINK.match(value) is not None
    return is_address or SERVICE_NAME.search(name) is not None
