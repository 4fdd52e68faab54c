"""Where a request's time went: the stages of its latency, and which requests were fast enough."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.messages import SERVER_STAGES
from mmlu_client.service.stages import LATENCY, STAGES, STAGES_OF_SERVERS, Slo

Seconds = NDArray[np.float64]


def latency(requests: RecordTable) -> Seconds:
    """Measure the seconds from due to reply, [requests]."""
    return (requests["client_ns.received"] - requests["client_ns.due"]) / 1e9


def stage_seconds(requests: RecordTable) -> dict[str, Seconds]:
    """Measure the seconds of each stage, [requests], in the order of STAGES.

    Where the server does not tell its own, only those of the client are known.
    """
    server = {stage.key: requests[f"server_ns.{name}"] for name, stage in SERVER_STAGES.items()}
    total = requests["server_ns.total"]
    away = requests["client_ns.received"] - requests["client_ns.sent"]
    nanoseconds = {
        "tokenize": requests["client_ns.tokenize"],
        "client_queue": requests["client_ns.sent"] - requests["client_ns.due"],
        "network": away - total,
        **server,
        "server_other": total - sum(server.values()),
    }
    known = STAGES if requests.knows("server_ns") else STAGES.keys() - STAGES_OF_SERVERS
    return {name: nanoseconds[name] / 1e9 for name in STAGES if name in known}


def good_requests(requests: RecordTable, slos: tuple[Slo, ...]) -> NDArray[np.bool_]:
    """Tell which requests meet every SLO, [requests]."""
    seconds = {**stage_seconds(requests), LATENCY: latency(requests)}
    good = np.ones(len(requests), dtype=bool)
    for slo in slos:
        good &= seconds[slo.key] * 1e3 <= slo.milliseconds
    return good


def late_seconds(requests: RecordTable) -> Seconds:
    """Measure how long each request stood ready before the client sent it, in seconds, [requests].

    This is the client's own fault.
    """
    return (requests["client_ns.sent"] - requests["client_ns.ready"]) / 1e9
