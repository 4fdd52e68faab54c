"""Draws the dashboards as pictures in docs/images, from servers, a client and a Prometheus.

`python -m tools.watching [--servers N] [flags of mmlu-client]` draws those of a run and of its servers; with
several servers, each on a core of its own, only the servers' dashboard, as several-servers.png.
`python -m tools.watching --campaign FILE` draws that of a campaign, which starts its servers itself.
Both need the prometheus package and matplotlib.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from trt_common.command_line.streams import take_any_text

from tools.free_port import free_port
from tools.server_process import ServerProcess
from tools.watching.dashboard import dashboards
from tools.watching.observed_campaign import ObservedCampaign, observe_campaign
from tools.watching.observed_run import ObservedRun, observe
from tools.watching.picture import Picture
from tools.watching.prometheus import Prometheus

IMAGES = Path(__file__).parents[2] / "docs" / "images"
VARIABLES = ("instance", "engine", "device", "campaign")
EVERYTHING = {**dict.fromkeys(VARIABLES, ".*"), "__rate_interval": "5s"}


def main() -> None:
    """Start everything, run the client or the campaign, and draw the dashboards."""
    take_any_text()
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parse.add_argument("--servers", type=int, default=1, help="how many share the run")
    parse.add_argument("--campaign", type=Path, metavar="FILE", help="draw this campaign instead of a run")
    options, client_flags = parse.parse_known_args()
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= options.servers <= len(cores):
        parse.error(f"--servers: from 1 to {len(cores)}, a core for each")
    if options.campaign and (client_flags or options.servers > 1):
        parse.error("--campaign: the file says what is asked of which servers")
    with ExitStack() as stack:
        if options.campaign:
            _draw_campaign(stack, options.campaign)
        else:
            _draw_run(stack, cores[: options.servers], client_flags)


def _draw_run(stack: ExitStack, cores: Sequence[int], client_flags: Sequence[str]) -> None:
    """Draw a run on as many servers as there are cores: one has them all, several have one each."""
    client_port, *metrics_ports = (free_port() for _ in range(len(cores) + 1))
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    prometheus = stack.enter_context(Prometheus(scratch, _targets([client_port], metrics_ports)))
    servers = [
        stack.enter_context(
            ServerProcess(
                *("--model", "demo", "--metrics-port", str(port)), core=core if len(cores) > 1 else None
            )
        )
        for port, core in zip(metrics_ports, cores, strict=True)
    ]
    prometheus.wait_for(f"count(count_over_time(trt_server_flops_total[1m]) >= 2) == {len(cores)}")
    run = observe(
        prometheus,
        server=",".join(server.address for server in servers),
        client_port=client_port,
        output=scratch / "run",
        arguments=tuple(client_flags),
    )
    names = {"trt-server": "trt-server", "mmlu-client-run": "mmlu-client-run"}
    _draw(run, names if len(cores) == 1 else {"trt-server": "several-servers"})


def _draw_campaign(stack: ExitStack, file: Path) -> None:
    client_port = free_port()
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    prometheus = stack.enter_context(Prometheus(scratch, _targets([client_port], [])))
    campaign = observe_campaign(prometheus, file=file, client_port=client_port, output=scratch / "campaign")
    _draw(campaign, {"campaign": "campaign"})


def _targets(client_ports: Sequence[int], server_ports: Sequence[int]) -> dict[str, list[str]]:
    ports = {"servers": server_ports, "clients": client_ports}
    return {name: [f"127.0.0.1:{port}" for port in each] for name, each in ports.items()}


def _draw(seen: ObservedRun | ObservedCampaign, names: Mapping[str, str]) -> None:
    """Draw dashboards, named by their uid, into files of these names."""
    IMAGES.mkdir(exist_ok=True)
    for dashboard in dashboards():
        if name := names.get(dashboard.uid):
            path = IMAGES / f"{name}.png"
            Picture(dashboard, seen.prometheus, seen.start, seen.end, EVERYTHING).draw(path)
            print(path)


if __name__ == "__main__":
    main()
