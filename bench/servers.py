"""Several servers, a core each, against one of them on its one core, through one client.

    python -m bench.servers --data FOLDER [--servers 2] [--questions 40] [--rounds 3] [--concurrency 4]

Each round asks the same questions of one server and of all, and gives one ratio of questions a second;
which comes first alternates, and which server is the one. A server's threads are bound to its core, and
servers that are not asked stand idle. The client runs where the system puts it: beside all servers it has
no core of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_client.data.benchmark import load_benchmark
from trt_common.command_line.streams import take_any_text
from trt_common.command_line.values import count

from tools.server_process import ServerProcess, program


@dataclass(frozen=True)
class Side:
    """One run.

    Attributes:
        shares: The number of questions by server.
        client_share: The client's processor seconds per second.
    """

    summary: dict[str, Any]
    predicted: dict[tuple[str, int], str]
    shares: list[int]
    client_share: float

    @property
    def rate(self) -> float:
        """The questions per second, from the first prompt built to the last reply."""
        return float(self.summary["answered"] / self.summary["whole_seconds"])


@dataclass(frozen=True)
class Round:
    """Runs on one server and on all servers."""

    one: Side
    all: Side

    @property
    def ratio(self) -> float:
        """All servers' rate relative to the one server's."""
        return self.all.rate / self.one.rate


def main() -> None:
    """Run the rounds and print the ratios."""
    take_any_text()
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", default="demo")
    parse.add_argument("--model", default="dummy:llama-100m", help="dummy:<geometry> or a folder")
    parse.add_argument("--tokenizer", help="the model's own by default; the demo's for dummy:<geometry>")
    parse.add_argument("--servers", type=count, default=2)
    parse.add_argument("--questions", type=count, default=40)
    parse.add_argument("--rounds", type=count, default=3)
    parse.add_argument("--concurrency", type=count, default=4, help="requests in flight, on both sides")
    options = parse.parse_args()
    options.tokenizer = options.tokenizer or ("demo" if options.model.startswith("dummy:") else options.model)
    cores = sorted(os.sched_getaffinity(0))
    if options.servers < 2:
        parse.error("one server is what several are compared with: give --servers 2 or more")
    if len(cores) < options.servers:
        parse.error(f"{options.servers} servers need as many cores, and {len(cores)} may be used here")

    with ExitStack() as stack:
        servers = [
            stack.enter_context(ServerProcess("--model", options.model, "--threads", "1", core=core))
            for core in cores[: options.servers]
        ]
        urls = [server.address for server in servers]
        rounds = [_round(options, urls, number) for number in range(options.rounds)]
    _print(options, rounds)


def _round(options: argparse.Namespace, urls: list[str], number: int) -> Round:
    one = [urls[number // 2 % len(urls)]]
    order = (one, urls) if number % 2 else (urls, one)
    sides = {len(asked): _side(options, asked) for asked in order}
    return Round(sides[len(one)], sides[len(urls)])


def _side(options: argparse.Namespace, urls: list[str]) -> Side:
    benchmark = load_benchmark(options.data)
    subjects = benchmark.pick_subjects(None)[: options.questions]
    command = [program("mmlu-client"), "--url", ",".join(urls), "--bs", "1", "--data", options.data]
    command += ["--tokenizer", options.tokenizer, "--subjects", ",".join(subjects)]
    command += ["--limit", str(max(1, options.questions // len(subjects)))]
    command += ["--concurrency", str(options.concurrency), "--warmup-request-count", str(len(urls))]
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        subprocess.run(
            [*command, "--output", f"{folder}/run"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        after = os.times()
        lines = (Path(folder) / "run" / "records.jsonl").read_text(encoding="utf-8").splitlines()
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in lines]
    shares = Counter(record["server"] for record in records)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Side(
        summary=summary,
        predicted={(record["subject"], record["index"]): record["predicted"] for record in records},
        shares=[shares[url] for url in urls],
        client_share=used / (after.elapsed - before.elapsed),
    )


def _print(options: argparse.Namespace, rounds: list[Round]) -> None:
    first = rounds[0].one.summary
    tokens = first["logical_tokens"] / first["answered"]
    print(
        f"\n{options.model}, {first['answered']} questions of {options.data}, {tokens:.0f} tokens a prompt,"
    )
    print(f"bs 1, {options.concurrency} in flight, {options.servers} servers on a core each, a thread each\n")
    print("Questions a second, from the first prompt built to the last reply:\n")
    print(
        "| round | one server | all servers | ratio | asked of each "
        "| core seconds a question: one, all | the client's processor time: one, all | same |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for number, each in enumerate(rounds, 1):
        core = [side.summary["core_seconds"] / side.summary["answered"] for side in (each.one, each.all)]
        same = sum(each.one.predicted[question] == letter for question, letter in each.all.predicted.items())
        print(
            f"| {number} | {each.one.rate:.3f} | {each.all.rate:.3f} | {each.ratio:.2f} "
            f"| {' + '.join(map(str, each.all.shares))} | {core[0]:.3f}, {core[1]:.3f} "
            f"| {each.one.client_share:.0%}, {each.all.client_share:.0%} | {same}/{len(each.all.predicted)} |"
        )
    print(f"\nmedian ratio {statistics.median(each.ratio for each in rounds):.2f}")


if __name__ == "__main__":
    main()
