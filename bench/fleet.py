"""A fleet on this machine: one client and 1, 2, 4 and 8 servers, as ratios to one server.

    python -m bench.fleet [--servers 1,2,4,8] [--rounds 3] [--questions 60]
    python -m bench.fleet --device-ms 40     # a server's time is its device's, which takes no core

Each server holds the bundled model. Without --device-ms it computes with one thread, bound to one of the
cores in turn: throughput grows until there are no more cores. With --device-ms each server has a stand-in for
a GPU of its own (tests/fakes), on which a batch takes so long without using the processor. Its answers are
those of the first batch of the same shapes, so that speed alone is told. What is left to the cores is what
the client and the servers do around the device, and eight servers show what the client and the protocol can
drive.

Each round asks as many questions of each server in turns of 1, 2, 4, … of them, up and down by turns; all
servers are up all the time and wait where they are not asked. A ratio compares two runs of one round. Before
the first round every server is asked once, which does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mmlu_client.data.benchmark import load_benchmark
from trt_common.command_line.streams import take_any_text
from trt_common.command_line.values import count

from tools.server_process import ServerProcess, program

FAKES = Path(__file__).parents[1] / "tests" / "fakes"


@dataclass(frozen=True)
class Run:
    """One run of the client over some of the servers.

    Attributes:
        summary: The client's figures.
        shares: The number of questions by server.
        server_seconds: Processor seconds of each server that was asked, while the client's process ran.
        busy: The share of all of the machine's cores that was in use meanwhile, whoever used them.
    """

    summary: Mapping[str, Any]
    shares: Sequence[int]
    server_seconds: Sequence[float]
    busy: float

    @property
    def answered(self) -> int:
        """The questions that were answered."""
        return int(self.summary["answered"])

    @property
    def rate(self) -> float:
        """Questions a second, from the first prompt built to the last reply."""
        return float(self.answered / self.summary["whole_seconds"])

    @property
    def engines_busy(self) -> float:
        """The share of the run's time that an engine computed, or its device took, on average."""
        asked = float(self.summary["whole_seconds"] * len(self.shares))
        return float(self.summary["core_seconds"] / asked)

    @property
    def client_milliseconds(self) -> float:
        """Processor time of the client's event loop a question."""
        return float(1e3 * self.summary["client_busy_share"] / self.rate)

    @property
    def server_milliseconds(self) -> float:
        """Processor time of the servers a question."""
        return 1e3 * sum(self.server_seconds) / self.answered


def main() -> None:
    """Run the rounds and print the table."""
    take_any_text()
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--servers", type=_sizes, default=(1, 2, 4, 8), metavar="N,…", help="fleets, 1 first")
    parse.add_argument("--rounds", type=count, default=3)
    parse.add_argument("--questions", type=count, default=60, help="asked of each server, in each run")
    parse.add_argument("--concurrency", type=count, default=2, help="requests in flight, of each server")
    parse.add_argument("--device-ms", type=float, metavar="MS", help="time of a batch on a stand-in's device")
    options = parse.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers = [
            stack.enter_context(_server(options, number, folder)) for number in range(options.servers[-1])
        ]
        _run(options, servers)
        rounds = [_round(options, servers, number) for number in range(options.rounds)]
    _print(options, rounds)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(count(each) for each in text.split(","))
    if sizes[0] != 1 or sorted(set(sizes)) != list(sizes):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with 1 and grow from there")
    return sizes


def _server(options: argparse.Namespace, number: int, folder: str) -> ServerProcess:
    """Return a server: on a core of its own, as far as there are cores, or on a stand-in for a device."""
    if options.device_ms is None:
        cores = sorted(os.sched_getaffinity(0))
        return ServerProcess(*("--engine", "onnxruntime", "--threads", "1"), core=cores[number % len(cores)])
    wishes = {"name": f"a stand-in of {options.device_ms:g} ms", "seconds": options.device_ms / 1e3}
    environment = {
        "PYTHONPATH": f"{FAKES / 'gpu'}{os.pathsep}{FAKES / 'tensorrt'}",
        "FAKE_GPU": json.dumps(wishes),
        "TRT_SERVER_CACHE": folder,
    }
    return ServerProcess("--engine", "tensorrt", "--precision", "fp32", environment=environment)


def _round(options: argparse.Namespace, servers: Sequence[ServerProcess], number: int) -> dict[int, Run]:
    """Return a run for each size of the fleet; which of the servers are asked changes by round."""
    sizes = options.servers if number % 2 == 0 else options.servers[::-1]
    first = number % len(servers)
    turned = [*servers[first:], *servers[:first]]
    return {size: _run(options, turned[:size]) for size in sizes}


def _run(options: argparse.Namespace, servers: Sequence[ServerProcess]) -> Run:
    subjects = load_benchmark("demo").pick_subjects(None)
    urls = [server.address for server in servers]
    command = [program("mmlu-client"), "--url", ",".join(urls), "--bs", "1"]
    command += ["--limit", str(math.ceil(options.questions * len(servers) / len(subjects)))]
    command += ["--concurrency", str(options.concurrency * len(servers))]
    command += ["--warmup-request-count", str(len(servers))]
    processes = [psutil.Process(server.process.pid) for server in servers]
    with tempfile.TemporaryDirectory() as folder:
        before = [_used(process) for process in processes]
        psutil.cpu_percent()
        subprocess.run(
            [*command, "--output", f"{folder}/run"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        busy = psutil.cpu_percent() / 100
        used = [_used(process) - was for process, was in zip(processes, before, strict=True)]
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))
        lines = (Path(folder) / "run" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    shares = Counter(json.loads(line)["server"] for line in lines)
    return Run(summary, [shares[url] for url in urls], used, busy)


def _used(process: psutil.Process) -> float:
    """Return the processor seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _print(options: argparse.Namespace, rounds: Sequence[Mapping[int, Run]]) -> None:
    cores = len(os.sched_getaffinity(0))
    where = (
        f"one thread each, bound in turn to {cores} cores"
        if options.device_ms is None
        else f"each with a device of its own that takes {options.device_ms:g} ms a batch, on {cores} cores"
    )
    print(f"\nThe bundled model, {where}; bs 1, {options.concurrency} requests in flight of each server.")
    print(f"{len(rounds)} rounds; medians, and in brackets the least and the most.\n")
    print(
        "| servers | questions | throughput, times one server's | engines busy | asked of each "
        "| the client's loop: busy, ms a question | servers' processor ms a question | all cores busy "
        "| client a bottleneck |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.servers:
        print(_row(size, [(each[size], each[1]) for each in rounds]))


def _row(size: int, runs: Sequence[tuple[Run, Run]]) -> str:
    """Return a line of the table.

    Args:
        size: The number of servers.
        runs: By round, the run on so many and that on one.
    """
    them = [run for run, _ in runs]
    ratios = [run.rate / one.rate for run, one in runs]
    shares = [share for run in them for share in run.shares]
    bottleneck = sum(bool(run.summary["client_is_bottleneck"]) for run in them)
    cells = [
        str(size),
        str(them[0].answered),
        _spread(ratios, ".2f"),
        f"{_median(run.engines_busy for run in them):.0%}",
        f"{min(shares)} … {max(shares)}",
        f"{_median(run.summary['client_busy_share'] for run in them):.0%}, "
        f"{_median(run.client_milliseconds for run in them):.2f}",
        f"{_median(run.server_milliseconds for run in them):.1f}",
        f"{_median(run.busy for run in them):.0%}",
        f"{bottleneck} of {len(them)}",
    ]
    return f"| {' | '.join(cells)} |"


def _median(values: Any) -> float:
    return float(statistics.median(values))


def _spread(values: Sequence[float], form: str) -> str:
    return f"{_median(values):{form}} ({min(values):{form}} … {max(values):{form}})"


if __name__ == "__main__":
    main()
