"""Our server and vLLM on the same checkpoint and questions, both asked by mmlu-client, in turns.

    python -m bench.peers --vllm FOLDER --model FOLDER [--data demo] [--limit 4] [--subjects a,b] [--bs 1]
        [--concurrency 4] [--rounds 5] [--threads 2] [--reuse] [--keep FOLDER]

Both servers are up at once, and the one that is not asked stands idle. Each round asks both every question
under the same load, the first of them in turns; a ratio is the median of the rounds' own. Without --reuse
neither uses again what it computed. --keep names a folder for the runs, which `mmlu-client compare` reads.

--vllm names a virtual environment that has vLLM's CPU backend.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmlu_client.text import percent
from trt_common.command_line.streams import take_any_text
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.source import resolve_model

from bench.asked_questions import question_flags, read_flags, run_client
from bench.vllm_server import prefix_caching, vllm_server
from tools.server_process import ServerProcess

OURS, VLLM = "trt-server", "vLLM"
# As Hendrycks' own program cuts its prompts.
MOST_PROMPT_TOKENS = 2048


@dataclass(frozen=True)
class Asked:
    """What one server answered in one round.

    Attributes:
        figures: The run's summary.
        records: Of the scored questions, in the benchmark's order.
    """

    figures: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]


# What each server answered in one round, by its name.
Round = dict[str, Asked]


def main() -> None:
    """Run the rounds and print the table."""
    take_any_text()
    parse = question_flags(__doc__, rounds=5)
    parse.set_defaults(model="demo")
    parse.add_argument("--concurrency", type=int, default=4)
    parse.add_argument("--reuse", action="store_true")
    parse.add_argument("--vllm", type=Path, metavar="FOLDER", required=True)
    parse.add_argument("--keep", type=Path, metavar="FOLDER")
    options = read_flags(parse)
    folder = resolve_model(options.model, "fp32").folder
    # vLLM counts the generated token with the prompt.
    options.prompt_tokens = open_checkpoint(folder).geometry.max_positions - 1
    with ExitStack() as stack:
        kept = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        threads = ("--threads", str(options.threads))
        ours = stack.enter_context(ServerProcess("--model", str(folder), *threads))
        peer = stack.enter_context(
            vllm_server(
                options.vllm, folder, options.threads, "--dtype", "float32", *prefix_caching(options.reuse)
            )
        )
        addresses = {OURS: ours.address, VLLM: peer}
        # The first time each is asked it is warm no more than its server made it.
        rounds = [_round(options, addresses, kept, number) for number in range(options.rounds + 1)][1:]
    _print(options, rounds)


def _round(options: argparse.Namespace, addresses: Mapping[str, str], kept: Path, number: int) -> Round:
    """Ask both servers, in an order that turns from round to round."""
    names = list(addresses) if number % 2 else list(addresses)[::-1]
    metrics = {OURS: (), VLLM: ("--server-metrics", f"{addresses[VLLM]}/metrics")}
    return {name: _ask(options, addresses[name], kept / f"{name}-{number}", *metrics[name]) for name in names}


def _ask(options: argparse.Namespace, address: str, output: Path, *more: str) -> Asked:
    flags = ["--concurrency", str(options.concurrency), *(["--reuse-prefix"] if options.reuse else [])]
    flags += ["--max-prompt-tokens", str(min(options.prompt_tokens, MOST_PROMPT_TOKENS))]
    figures, records = run_client(options, address, output, *flags, *more)
    return Asked(figures, records)


def _print(options: argparse.Namespace, rounds: Sequence[Round]) -> None:
    first = rounds[0]
    print(
        f"\n{options.model}, {len(first[OURS].records)} questions of {options.data}, bs {options.bs}, "
        f"{options.concurrency} in flight, {options.threads} threads, {len(rounds)} rounds, "
        f"reuse {options.reuse}\n"
    )
    print("| | acc | tokens/s whole, median (least to most) | to vLLM | p50, ms | p99, ms | prefix reused |")
    print("|---|---|---|---|---|---|---|")
    for name in (OURS, VLLM):
        print(f"| {name} | {' | '.join(_cells(rounds, name))} |")
    same, apart = _agreement(first)
    print(
        f"\nthe same letter on {same} of {len(first[OURS].records)}; "
        f"log-probabilities at most {apart:.1e} nats apart"
    )


def _cells(rounds: Sequence[Round], name: str) -> list[str]:
    rates = sorted(each[name].figures["p_infer_whole"] for each in rounds)
    ratios = [each[name].figures["p_infer_whole"] / each[VLLM].figures["p_infer_whole"] for each in rounds]
    return [
        f"{rounds[0][name].figures['acc']:.4f}",
        f"{statistics.median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})",
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        *(f"{_median(rounds, name, f'latency_p{share}_seconds') * 1e3:.1f}" for share in (50, 99)),
        percent(rounds[0][name].figures["prefix_hit_ratio"]),
    ]


def _median(rounds: Sequence[Round], name: str, key: str) -> float:
    return float(statistics.median(each[name].figures[key] for each in rounds))


def _agreement(asked: Round) -> tuple[int, float]:
    """Return on how many questions both chose one letter, and how far log-probabilities are apart."""
    pairs = list(zip(asked[OURS].records, asked[VLLM].records, strict=True))
    same = sum(mine["predicted"] == theirs["predicted"] for mine, theirs in pairs)
    apart = [
        np.abs(np.array(list(mine["logprobs"].values())) - list(theirs["logprobs"].values())).max()
        for mine, theirs in pairs
    ]
    return same, float(max(apart))


if __name__ == "__main__":
    main()
