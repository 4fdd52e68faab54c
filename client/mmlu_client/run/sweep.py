"""Several loads, one after the other: a run for each, and one table and page of them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmlu_client.config.load_plan import LoadPlan
from mmlu_client.config.settings import Settings
from mmlu_client.errors import ClientError, FlawedRunError, InputError, RunError
from mmlu_client.figures.caveats import alarms
from mmlu_client.figures.formulas import summarize
from mmlu_client.figures.summary import Summary
from mmlu_client.figures.sweep_point import Point, name_of
from mmlu_client.pages.sweep_page import sweep_page
from mmlu_client.report.formats import formatted_sweep
from mmlu_client.report.outcome import joined, loss, print_text, write_files
from mmlu_client.report.sweep_table import sweep_table
from mmlu_client.report.terminal import load_line, sweep_text, this_terminal, wrapped
from mmlu_client.run.closing import Show
from mmlu_client.run.evaluation import Start
from mmlu_client.run.run import Run, shown_as
from mmlu_client.run.sources import source_of
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import (
    HTML,
    SWEEP_CSV,
    SWEEP_JSON,
    SWEEP_TABLE,
    choose_output_folder,
    holds_answers,
    holds_sweep,
)
from mmlu_client.rundir.sweep_manifest import write_sweep_manifest


def sweep(settings: Settings, command_line: Sequence[str], started: float) -> None:
    """Measure a run for each load, and write and print them together.

    Of a sweep that is resumed, what is left to ask is measured.

    Args:
        settings: of the sweep.
        command_line: of this process.
        started: when this process started, in seconds of the monotonic clock.

    Raises:
        ClientError: a run failed or was stopped, after the table of those before it and of what it had.
    """
    folder = settings.resume or _new_folder(settings)
    source = source_of(settings)
    loads = [name_of(plan) for plan in settings.sweep]
    opened = partial(write_sweep_manifest, folder, settings.given, loads, command_line)
    points: list[Point] = []
    flaws: list[ClientError] = []
    trouble: ClientError | None = None
    for plan in settings.sweep:
        point, place = _point(settings, plan, folder), folder / name_of(plan)
        is_first = not holds_sweep(folder)
        run = Run(point, source, place, _show(point, plan))
        start = Start(command_line, started, opened) if is_first else Start(command_line, started)
        try:
            asyncio.run(run.measure(start))
        except FlawedRunError as error:
            flaws.append(FlawedRunError(f"{name_of(plan)}: {error}"))
        except ClientError as error:
            trouble = error
        if run.finished is not None:
            points.append(Point(plan, run.finished, summarize(run.finished)))
        if trouble is not None:
            break
        started = time.monotonic()
    if points:
        if trouble is not None and not isinstance(trouble, InputError):
            trouble.add(f"--resume {folder} goes on with it")
        flaws += _report(folder, points, settings)
    trouble = joined(trouble, flaws)
    if trouble is not None:
        raise trouble


def _new_folder(settings: Settings) -> Path:
    """Choose the folder of a new sweep.

    Raises:
        InputError: it holds a sweep already.
    """
    folder = choose_output_folder(settings.output)
    if any((folder / name_of(plan)).exists() for plan in settings.sweep):
        go_on = f", or go on with it: --resume {folder}" if holds_sweep(folder) else ""
        raise InputError(f"--output {folder} holds a sweep already: name another folder{go_on}")
    return folder


def _point(settings: Settings, plan: LoadPlan, folder: Path) -> Settings:
    """Return the settings of the run for one load; a run that has answers already is resumed."""
    place = folder / name_of(plan)
    resume = place if settings.resume is not None and holds_answers(place) else None
    return replace(settings, load=plan, given=_given(settings, plan), resume=resume)


def _given(settings: Settings, plan: LoadPlan) -> dict[str, object]:
    """Return the flags that would ask for this load alone."""
    varied = {"request_rate": plan.rate} if plan.mode == "open" else {"concurrency": plan.concurrency}
    return {**settings.given, "sweep": None, **varied}


def _show(point: Settings, plan: LoadPlan) -> Show:
    """Return what prints a run of the sweep: one line, or with --verbose all of it.

    The forms for other programs are printed in one piece, at the end.
    """
    if point.format == "table" and point.verbose:
        return shown_as(point)

    def show(run: FinishedRun, summary: Summary, is_written: bool) -> None:  # noqa: ARG001
        if point.format == "table":
            lines = [load_line(Point(plan, run, summary)), *alarms(run, summary)]
            print_text(wrapped(lines, this_terminal(is_whole=False).width))

    return show


def _report(folder: Path, points: Sequence[Point], settings: Settings) -> list[RunError]:
    """Write and print the runs that there are, and return what could not be written or printed."""
    lost = write_files(
        {
            folder / SWEEP_TABLE: lambda: sweep_table(points) + "\n",
            folder / SWEEP_JSON: lambda: formatted_sweep(points, "json") + "\n",
            folder / SWEEP_CSV: lambda: formatted_sweep(points, "csv") + "\n",
            folder / HTML: lambda: sweep_page(points),
        }
    )
    errors = loss(lost, "--resume")
    try:
        print_text(_text(folder, points, settings, is_written=not lost))
    except RunError as error:
        errors.append(RunError(f"{error}; see {folder}"))
    return errors


def _text(folder: Path, points: Sequence[Point], settings: Settings, *, is_written: bool) -> str:
    if settings.format != "table":
        return formatted_sweep(points, settings.format)
    text = sweep_text(points, this_terminal(is_whole=settings.verbose))
    return f"\n{text}\n\nwritten to {folder}" if is_written else f"\n{text}"
