"""The variables of the environment that set a program's options."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from trt_common.command_line.nearest import suggestion

# Kubernetes sets variables for services: for one called `mmlu-client-metrics` MMLU_CLIENT_METRICS_PORT,
# MMLU_CLIENT_METRICS_SERVICE_HOST, MMLU_CLIENT_METRICS_PORT_8002_TCP_ADDR and more of their like.
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
SERVICE_NAME = re.compile(r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")


def set_variables() -> dict[str, str]:
    """Return the variables that set something, by name.

    An empty one sets nothing, as `VAR=` in an env file and `${VAR:-}` in a composition; nor do those that
    Kubernetes sets for services.
    """
    return {name: value for name, value in os.environ.items() if value.strip() and not _is_link(name, value)}


def unknown_variables(program: str, prefix: str, known: Collection[str]) -> list[str]:
    """Return a warning in one line for each variable that is probably misspelt.

    Args:
        program: what the warning calls the program.
        prefix: what the names of the program's variables begin with.
        known: the names of its variables. Others that begin with the prefix are warned of.
    """
    return [
        f"the variable {name} is none of {program}'s and sets nothing{suggestion(name, known, prefix)}"
        for name in sorted(set_variables())
        if name.startswith(prefix) and name not in known
    ]


def _is_link(name: str, value: str) -> bool:
    is_address = name.endswith("_PORT") and SERVICE_LINK.match(value) is not None
    return is_address or SERVICE_NAME.search(name) is not None
