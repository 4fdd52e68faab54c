"""A campaign that a Prometheus watches."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processes import ServerProcess
from trt_common.program import program

from tools.free_port import free_port
from tools.watching.prometheus import Prometheus

# Of each subject, in each cell: enough for several scrapes while it is on.
QUESTIONS = 8


@dataclass(frozen=True)
class ObservedCampaign:
    """A campaign that was scraped, and the Unix seconds between which it was.

    Attributes:
        prometheus: What scraped it.
        start: When it began.
        end: The last scrape of its figures.
    """

    prometheus: Prometheus
    start: float
    end: float


@contextmanager
def observe_campaign(folder: Path, server: ServerProcess) -> Iterator[ObservedCampaign]:
    """Run a campaign of two cells, both asked of this server, to its end."""
    port, file = free_port(), folder / "watched.yaml"
    file.write_text(
        f"servers:\n  watched: {{url: '{server.url}'}}\nworkloads:\n  some: {{limit: {QUESTIONS}}}\n"
        "repetitions: 2\n"
    )
    targets = {
        "servers": [f"127.0.0.1:{server.ports['metrics_port']}"],
        "clients": [f"127.0.0.1:{port}"],
    }
    with Prometheus(folder, targets) as prometheus:
        # It takes some seconds until it scrapes anything, and a campaign of two cells takes no longer.
        prometheus.wait_for("count_over_time(trt_server_flops_total[1m]) >= 2")
        start = time.time()
        arguments = ["campaign", str(file), "--output", str(folder / "out"), "--metrics-port", str(port)]
        subprocess.run([program("mmlu-client"), *arguments], check=True, stdout=subprocess.DEVNULL)
        finished = 'mmlu_campaign_cells{state="finished"} == 2'
        (seen,) = prometheus.query_range(finished, start, time.time(), 0.25)
        yield ObservedCampaign(prometheus, start, seen.values[-1][0])
