"""A run of mmlu-client that a Prometheus scrapes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_common.installed_program import program

from tools.watching.prometheus import Prometheus

# A scrape and an evaluation of the rules take up to a second each; one second is a reserve.
SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class ObservedRun:
    """A run, and the times between which it was scraped.

    Attributes:
        prometheus: The Prometheus that scraped it.
        client: The client's address on its metrics port, which is the label `instance`.
        start: The first scrape of the client's figures, in Unix seconds.
        end: The last scrape of the client's figures, in Unix seconds.
        settled: When every rule had the servers' counters of the whole run, in Unix seconds.
        summary: The run's own figures.
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

    Args:
        prometheus: What scrapes it.
        server: The gRPC address of the server, or several.
        client_port: The port for the client's metrics, which has to be a target of `prometheus`.
        output: The run's folder.
        arguments: Further arguments of mmlu-client.

    Raises:
        CalledProcessError: The client failed.
        RuntimeError: The run ended before it was scraped.
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
    # A rule's result remains for one evaluation after its last input, so both have to be there.
    both = f'mmlu_client:throughput_whole:run{{instance="{client}"}} and mmlu_client_run_seconds'
    seen = prometheus.query_range(both, asked, time.time(), 0.25)
    if not seen:
        raise RuntimeError("the run was over before anything of it was scraped")
    (series,) = seen
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    return ObservedRun(prometheus, client, series.values[0][0], series.values[-1][0], settled, summary)
