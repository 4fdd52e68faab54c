"""The command line of `mmlu-client campaign` → what it asks for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from trt_common.command_line import values
from trt_common.command_line.option import option

from mmlu_client.config import flag_values
from mmlu_client.config.settings import METRICS_HOST

LOCAL, RAY = "local", "ray"
WHERE, OUTPUT = "where", "output"


def place(value: str) -> str:
    """Read where cells are run: `local`, `ray`, or `ray:HOST:PORT`."""
    if value not in (LOCAL, RAY) and not (value.startswith(f"{RAY}:") and value[len(RAY) + 1 :]):
        raise argparse.ArgumentTypeError(f"{value!r} is neither {LOCAL} nor {RAY} nor {RAY}:HOST:PORT")
    return value


@dataclass(frozen=True, kw_only=True)
class CampaignChoices:
    """What a start of a campaign is to do, each declared with its flag, default and help."""

    output: Path | None = option(
        OUTPUT,
        "folder of the campaign; one that is there is gone on with; campaigns/<the file's name> by default",
        type=flag_values.path,
        metavar="DIR",
        read=lambda given: Path(given).expanduser() if given else None,
    )
    dry_run: bool = option(
        OUTPUT, "check the file and print the cells, and start nothing", action="store_true"
    )
    on: str = option(
        WHERE,
        "where cells are run: on this machine, or on a Ray cluster, by default the one that RAY_ADDRESS "
        "names or that runs here; needs `pip install 'trt-server[ray]'`",
        type=place,
        default=LOCAL,
        metavar=f"{LOCAL}|{RAY}[:HOST:PORT]",
    )
    parallel: int | None = option(
        WHERE,
        "cells that run at the same time: on this machine one by default, each on its share of the cores; on "
        "Ray as many as its resources hold",
        type=values.count,
        metavar="N",
    )
    metrics_port: int | None = option(
        OUTPUT,
        "port for Prometheus to scrape the campaign's progress; 0: a free one; none by default",
        type=values.port,
        metavar="PORT",
    )
    metrics_host: str = option(
        OUTPUT, "address it listens on; 0.0.0.0 for every one", default=METRICS_HOST, metavar="HOST"
    )
