"""Several loads, one after the other: a run for each, and one table of them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmlu_client.dataset import load_benchmark
from mmlu_client.errors import InputError
from mmlu_client.finished_run import read_run
from mmlu_client.report import markdown_table
from mmlu_client.run import Run
from mmlu_client.run_folder import choose_output_folder, make_folder, write_text
from mmlu_client.settings import LoadPlan, Settings
from mmlu_client.summary import Summary, summarize
from mmlu_client.text import milliseconds, number, percent

SWEEP = "sweep.md"
HEAD = (
    "load", "requests/s", "tokens/s whole", "tokens/s core", "MFU", "batch", "p50", "p90", "p99", "goodput",
    "client",
)  # fmt: skip


def sweep(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure every point and print the table. Raises ClientError where one of them fails."""
    if settings.resume is not None:
        raise InputError("--resume goes on with one run: name the folder of one of the sweep's points")
    folder = choose_output_folder(settings.output)
    if any((folder / name_of(plan)).exists() for plan in settings.sweep):
        raise InputError(f"--output {folder} holds a sweep already: name another folder")
    benchmark = load_benchmark(settings.data)
    points: list[tuple[LoadPlan, Summary]] = []
    for plan in settings.sweep:
        point, place = replace(settings, load=plan, given=_given(settings, plan)), folder / name_of(plan)
        asyncio.run(Run(point, command_line, started, benchmark, place).measure())
        points.append((plan, summarize(read_run(place))))
        started = time.monotonic()
    _write(folder, points)


def name_of(plan: LoadPlan) -> str:
    """The folder of one point."""
    return f"request-rate-{plan.rate:g}" if plan.mode == "open" else f"concurrency-{plan.concurrency}"


def _given(settings: Settings, plan: LoadPlan) -> dict[str, object]:
    """The flags that would ask for this point alone."""
    varied = {"request_rate": plan.rate} if plan.mode == "open" else {"concurrency": plan.concurrency}
    return {**settings.given, "sweep": None, **varied}


def _write(folder: Path, points: Sequence[tuple[LoadPlan, Summary]]) -> None:
    page = markdown_table([HEAD, *(_row(plan, summary) for plan, summary in points)])
    make_folder(folder)
    write_text(folder / SWEEP, page + "\n")
    print(f"\n{page}\n\nwritten to {folder}", flush=True)


def _row(plan: LoadPlan, summary: Summary) -> tuple[str, ...]:
    return (
        name_of(plan),
        number(summary.request_throughput, ".2f"),
        number(summary.p_infer_whole, ",.0f"),
        number(summary.p_infer_core, ",.0f"),
        percent(summary.mfu),
        number(summary.mean_batch_size, ".2f"),
        milliseconds(summary.latency_p50_seconds),
        milliseconds(summary.latency_p90_seconds),
        milliseconds(summary.latency_p99_seconds),
        percent(summary.goodput_share),
        {True: "bottleneck", False: "kept up", None: "/"}[summary.client_is_bottleneck],
    )
