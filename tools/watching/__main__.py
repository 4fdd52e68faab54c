"""Draws the dashboards of a run as pictures in docs/images, from servers, a client and a Prometheus.

`python -m tools.watching [--servers N] [flags of mmlu-client]` needs the prometheus package and matplotlib.
With several servers, each on a core of its own, only the servers' dashboard is drawn, as several-servers.png.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from trt_common.command_line.streams import take_any_text

from tools.free_port import free_port
from tools.server_process import ServerProcess
from tools.watching.dashboard import dashboards
from tools.watching.observed_run import observe
from tools.watching.picture import Picture
from tools.watching.prometheus import Prometheus

IMAGES = Path(__file__).parents[2] / "docs" / "images"
EVERYTHING = {"instance": ".*", "engine": ".*", "device": ".*", "__rate_interval": "5s"}


def main() -> None:
    """Start everything, run the client, and draw the dashboards."""
    take_any_text()
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parse.add_argument("--servers", type=int, default=1, help="how many share the run")
    options, client_flags = parse.parse_known_args()
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= options.servers <= len(cores):
        parse.error(f"--servers: from 1 to {len(cores)}, a core for each")
    client_port, *metrics_ports = (free_port() for _ in range(options.servers + 1))
    targets = {
        "servers": [f"127.0.0.1:{port}" for port in metrics_ports],
        "clients": [f"127.0.0.1:{client_port}"],
    }
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prometheus = stack.enter_context(Prometheus(scratch, targets))
        servers = [
            stack.enter_context(
                ServerProcess(
                    *("--model", "demo", "--metrics-port", str(port)),
                    core=core if options.servers > 1 else None,
                )
            )
            for port, core in zip(metrics_ports, cores, strict=False)
        ]
        prometheus.wait_for(f"count(count_over_time(trt_server_flops_total[1m]) >= 2) == {options.servers}")
        run = observe(
            prometheus,
            server=",".join(server.address for server in servers),
            client_port=client_port,
            output=scratch / "run",
            arguments=tuple(client_flags),
        )
        IMAGES.mkdir(exist_ok=True)
        for dashboard in dashboards():
            if dashboard.uid == "trt-server" or (options.servers == 1 and dashboard.uid == "mmlu-client-run"):
                name = dashboard.uid if options.servers == 1 else "several-servers"
                path = IMAGES / f"{name}.png"
                Picture(dashboard, prometheus, run.start, run.end, EVERYTHING).draw(path)
                print(path)


if __name__ == "__main__":
    main()
