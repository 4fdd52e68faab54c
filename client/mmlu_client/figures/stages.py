"""Where a request's time went: the stages of its latency, and which requests were fast enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.service.messages import SERVER_STAGES
from mmlu_client.text import shortest

Seconds = NDArray[np.float64]

# In the order they happen. `tokenize` is done ahead of time and is no part of the latency; the others add up
# to it.
STAGES = {
    "tokenize": "the client builds the prompts, ahead of time",
    "client_queue": "due, and not yet sent",
    "network": "on the way there and back, and gRPC at both ends",
    **{stage.key: stage.about for stage in SERVER_STAGES.values()},
    "server_other": "decoding, encoding, waiting for the event loop; "
    "of merged requests, the others' share of the batch",
}
LATENCY = "latency"


@dataclass(frozen=True)
class Slo:
    """A service level objective: a limit of --goodput, which a good request keeps.

    Attributes:
        key: a stage, or LATENCY.
        milliseconds: how long it may take at the most.
    """

    key: str
    milliseconds: float

    def __str__(self) -> str:
        return f"{self.key}:{shortest(self.milliseconds)}"


def latency(requests: RecordTable) -> Seconds:
    """Measure the seconds from due to reply, [requests]."""
    return (requests["client_ns.received"] - requests["client_ns.due"]) / 1e9


def stage_seconds(requests: RecordTable) -> dict[str, Seconds]:
    """Measure the seconds of each stage, [requests], in the order of STAGES."""
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
    return {name: nanoseconds[name] / 1e9 for name in STAGES}


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
