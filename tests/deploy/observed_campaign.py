"""A campaign that a Prometheus watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import ServerProcess

from tools.free_port import free_port
from tools.watching.observed_campaign import ObservedCampaign, observe_campaign
from tools.watching.prometheus import Prometheus

# Of each subject, in each cell: enough for several scrapes while it is on.
QUESTIONS = 8


@contextmanager
def two_cells(folder: Path, server: ServerProcess) -> Iterator[ObservedCampaign]:
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
        yield observe_campaign(prometheus, file=file, client_port=port, output=folder / "out")
