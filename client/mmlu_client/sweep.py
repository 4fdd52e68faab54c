"""Several loads, one after the other: a run for each, and one table and page of them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmlu_client.dataset import load_benchmark
from mmlu_client.errors import ClientError, InputError
from mmlu_client.finished_run import read_run
from mmlu_client.formats import formatted_sweep
from mmlu_client.outcome import print_text
from mmlu_client.run import Run
from mmlu_client.run_folder import HTML, choose_output_folder, make_folder, write_text
from mmlu_client.settings import LoadPlan, Settings
from mmlu_client.summary import summarize
from mmlu_client.sweep_report import Point, name_of, sweep_page, sweep_table

SWEEP = "sweep.md"


def sweep(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure every point, and write and print them together.

    Raises ClientError where one fails or is stopped, after the table of those before it and of what it had.
    """
    if settings.resume is not None:
        raise InputError("--resume goes on with one run: name the folder of one of the sweep's points")
    folder = choose_output_folder(settings.output)
    if any((folder / name_of(plan)).exists() for plan in settings.sweep):
        raise InputError(f"--output {folder} holds a sweep already: name another folder")
    benchmark = load_benchmark(settings.data)
    # Other programs get all points in one piece, at the end.
    show = print_text if settings.format == "table" else _show_nothing
    points: list[Point] = []
    trouble: ClientError | None = None
    for plan in settings.sweep:
        point, place = replace(settings, load=plan, given=_given(settings, plan)), folder / name_of(plan)
        run = Run(point, command_line, started, benchmark, place, show)
        try:
            asyncio.run(run.measure())
        except ClientError as error:
            trouble = error
        if run.has_figures:
            finished = read_run(place)
            points.append(Point(plan, finished, summarize(finished)))
        if trouble is not None:
            break
        started = time.monotonic()
    if points:
        _write(folder, points, settings.format)
    if trouble is not None:
        raise trouble


def _given(settings: Settings, plan: LoadPlan) -> dict[str, object]:
    """The flags that would ask for this point alone."""
    varied = {"request_rate": plan.rate} if plan.mode == "open" else {"concurrency": plan.concurrency}
    return {**settings.given, "sweep": None, **varied}


def _show_nothing(_: str) -> None:
    """For what the sweep itself prints."""


def _write(folder: Path, points: Sequence[Point], form: str) -> None:
    make_folder(folder)
    write_text(folder / SWEEP, sweep_table(points) + "\n")
    write_text(folder / HTML, sweep_page(points))
    text = formatted_sweep(points, form)
    print_text(f"\n{text}\n\nwritten to {folder}" if form == "table" else text)
