"""A campaign of mmlu-client that a Prometheus scrapes."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from trt_common.installed_program import program

from tools.watching.prometheus import Prometheus


@dataclass(frozen=True)
class ObservedCampaign:
    """A campaign, and the times between which it was scraped.

    Attributes:
        prometheus: The Prometheus that scraped it.
        start: When it began, in Unix seconds.
        end: The last scrape of its figures, in Unix seconds.
    """

    prometheus: Prometheus
    start: float
    end: float


def observe_campaign(
    prometheus: Prometheus, *, file: Path, client_port: int, output: Path
) -> ObservedCampaign:
    """Run a campaign to its end.

    Args:
        prometheus: What scrapes it.
        file: The campaign's.
        client_port: The port for its metrics, which has to be a target of `prometheus`.
        output: The campaign's folder.

    Raises:
        CalledProcessError: The campaign, or a cell of it, failed.
        RuntimeError: The campaign ended before it was scraped.
    """
    start = time.time()
    command = [program("mmlu-client"), "campaign", str(file), "--output", str(output)]
    subprocess.run([*command, "--metrics-port", str(client_port)], check=True, stdout=subprocess.DEVNULL)
    seen = prometheus.query_range('mmlu_campaign_cells{state="finished"} > 0', start, time.time(), 0.25)
    if not seen:
        raise RuntimeError("the campaign was over before anything of it was scraped")
    return ObservedCampaign(prometheus, start, max(series.values[-1][0] for series in seen))
