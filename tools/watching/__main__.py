"""A server, a run and a Prometheus, and every dashboard of that run as a picture in docs/images.

`python -m tools.watching [flags of mmlu-client]` needs the prometheus package, and matplotlib.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tools.server_process import ServerProcess
from tools.watching.dashboard import dashboards
from tools.watching.observed_run import observe
from tools.watching.picture import Picture
from tools.watching.prometheus import Prometheus, free_port

IMAGES = Path(__file__).parents[2] / "docs" / "images"
EVERYTHING = {"instance": ".*", "engine": ".*", "device": ".*", "__rate_interval": "5s"}


def main() -> None:
    client_port, metrics_port = free_port(), free_port()
    targets = {"servers": [f"127.0.0.1:{metrics_port}"], "clients": [f"127.0.0.1:{client_port}"]}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Prometheus(Path(scratch), targets) as prometheus,
        ServerProcess("--model", "demo", "--metrics-port", str(metrics_port)) as server,
    ):
        prometheus.wait_for("count_over_time(trt_server_flops_total[1m]) >= 2")
        run = observe(
            prometheus,
            server=server.address,
            client_port=client_port,
            output=Path(scratch) / "run",
            arguments=tuple(sys.argv[1:]),
        )
        for dashboard in dashboards():
            path = IMAGES / f"{dashboard.uid}.png"
            path.parent.mkdir(exist_ok=True)
            Picture(dashboard, prometheus, run.start, run.end, EVERYTHING).draw(path)
            print(path)


if __name__ == "__main__":
    main()
