"""The campaign of a stranger who means harm, for `make torture`: prints figures; exits 1 where one breaks.

Each part has a size that is a share of the whole hour. Kills and disks come first, as each takes seconds;
mutated messages have what is left of the time but for the soak, and the soak has the rest.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from checkpoints import write_checkpoint
from client_kills import kill_clients
from floods import flood
from full_disk import fill_disks
from garbage import connect_garbage
from mutated_messages import send_mutated
from outcome import Outcome
from server_kills import kill_servers
from soak import soak
from trt_common.version import version

HOUR_MINUTES = 60.0
# What an hour has of each.
MESSAGES, CONNECTIONS, FLOOD, KILLS, DISKS = 1_000_000, 10_000, 600, 100, 30
LEAST_SOAK_SECONDS = 10.0
# Of the time, when the soak begins at the latest.
SOAK_FROM = 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts one after the other, print a table of each as it ends; 1 where something did not hold."""
    options = _options(arguments)
    started = time.monotonic()
    print(
        f"seed {options.seed}, about {options.minutes:g} minutes, trt-server {version()}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total // 2**30} GiB",
        flush=True,
    )
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="trt-torture-") as folder:
        for outcome in _parts(Path(folder), options.minutes, options.seed, started):
            print(_table(outcome), flush=True)
            broken += [f"{outcome.part}: {each}" for each in outcome.broken]
    for each in broken:
        print(f"does not hold: {each}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{'something does not hold' if broken else 'all holds'}, seed {options.seed}, {minutes:.1f} minutes"
    )
    return 1 if broken else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=HOUR_MINUTES, help="about how long; everything is scaled by it"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(2**32),
        help="what everything follows from",
    )
    options = parser.parse_args(arguments)
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes:g} is no time")
    return options


def _parts(folder: Path, minutes: float, seed: int, started: float) -> Iterator[Outcome]:
    # What is asked of this machine goes through no proxy, and what is cached is this campaign's own.
    os.environ["no_proxy"] = "localhost,127.0.0.1"
    os.environ["TRT_SERVER_CACHE"] = str(folder / "own-cache")
    share = minutes / HOUR_MINUTES

    def part_of(whole: int) -> int:
        return max(1, round(whole * share))

    model = write_checkpoint(folder / "model", "llama")
    for name in ("servers", "clients", "disks"):
        (folder / name).mkdir()
    yield kill_servers(folder / "servers", model, part_of(KILLS // 2), seed)
    yield kill_clients(folder / "clients", part_of(KILLS // 2), seed)
    yield fill_disks(folder / "disks", model, part_of(DISKS), seed)
    yield connect_garbage(model, part_of(CONNECTIONS), seed)
    yield flood(model, part_of(FLOOD))
    yield send_mutated(model, part_of(MESSAGES), seed, started + SOAK_FROM * 60 * minutes)
    left = 60 * minutes - (time.monotonic() - started)
    yield soak(model, max(left, LEAST_SOAK_SECONDS))


def _table(outcome: Outcome) -> str:
    rows = [*outcome.figures.items(), ("does not hold", f"{outcome.breaches:,}")]
    return "\n".join(
        [f"\n| {outcome.part} | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    )


if __name__ == "__main__":
    sys.exit(main())
