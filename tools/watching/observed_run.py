"""One run of mmlu-client while a Prometheus watches."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.server_process import program
from tools.watching.prometheus import Prometheus

# A scrape and an evaluation, a second at most for each, and one to spare.
SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class ObservedRun:
    """start, end: Unix seconds between which every figure of the client was scraped.

    settled: when every rule had the servers' counters of the whole run. summary: the run's own.
    client: its address on the metrics port, as the label `instance` has it.
    """

    prometheus: Prometheus
    client: str
    start: float
    end: float
    settled: float
    summary: Mapping[str, Any]


def observe(
    prometheus: Prometheus, *, server: str, client_port: int, output: Path, arguments: tuple[str, ...] = ()
) -> ObservedRun:
    """Run mmlu-client to its end.

    server: its gRPC address. client_port: a target of `prometheus`, for the client's metrics.
    Raises CalledProcessError where the client fails, RuntimeError where nothing of it was scraped.
    """
    asked = time.time()
    subprocess.run(
        [
            program("mmlu-client"),
            "--url",
            server,
            "--metrics-port",
            str(client_port),
            "--output",
            str(output),
            *arguments,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    time.sleep(SETTLE_SECONDS)
    settled = time.time()
    client = f"127.0.0.1:{client_port}"
    # From its first answer to its last scrape: a rule outlives what it is made of by one evaluation.
    both = f'mmlu_client:throughput_whole:run{{instance="{client}"}} and mmlu_client_run_seconds'
    seen = prometheus.query_range(both, asked, time.time(), 0.25)
    if not seen:
        raise RuntimeError("the run was over before anything of it was scraped")
    (series,) = seen
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return ObservedRun(prometheus, client, series.values[0][0], series.values[-1][0], settled, summary)
