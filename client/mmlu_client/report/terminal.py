"""The text at the end of a run for a terminal: the suite's row, a few lines, and accuracy by subject."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmlu_client.figures.caveats import alarms, mfu_lines, partial_lines, reference_lines
from mmlu_client.figures.self_check import self_check
from mmlu_client.figures.summary import AccuracyFigures, Summary
from mmlu_client.figures.sweep_point import Point
from mmlu_client.report.sweep_table import marks, measured, sweep_rows
from mmlu_client.report.table import (
    COLUMNS,
    Row,
    accuracy_parts,
    cells,
    interval,
    markdown_table,
    notes,
    part_rows,
    remarks,
    what,
)
from mmlu_client.report.task_table import task_rows
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.text import accuracy, labelled, milliseconds, number


@dataclass(frozen=True)
class View:
    """How much is shown.

    Attributes:
        width: The characters in a line.
        is_whole: Whether every line of summary.md is shown.
        is_watched: Whether a person is at the terminal, who gets each subject's accuracy.
    """

    width: int
    is_whole: bool
    is_watched: bool


def this_terminal(*, is_whole: bool) -> View:
    """Return the view for standard output; its width is COLUMNS, or 80 where it is no terminal."""
    return View(shutil.get_terminal_size().columns, is_whole, sys.stdout.isatty())


def run_text(run: FinishedRun, summary: Summary, view: View) -> str:
    """Return the text of a run."""
    row = stacked([COLUMNS, cells(summary, run.model.notice)], view.width)
    if view.is_whole:
        lines = wrapped((f"- {line}" for line in notes(run, summary)), view.width)
        tables = [stacked(rows, view.width, repeated=1) for rows in part_rows(summary, run.model.notice)]
        return "\n\n".join([*tables, row, lines])
    lines = wrapped(brief_lines(run, summary), view.width)
    if tasks := task_rows(summary, run.model.notice):
        return "\n\n".join([stacked(tasks, view.width, repeated=1), row, lines])
    return "\n\n".join([*(_subjects(run, summary, view) if view.is_watched else []), row, lines])


def brief_lines(run: FinishedRun, summary: Summary) -> list[str]:
    """Return the most important lines that explain the row."""
    notice = run.model.notice
    return [
        *alarms(run, summary),
        *mfu_lines([summary]),
        *([notice] if notice else []),
        *_accuracy_lines(summary, notice),
        *(
            partial_lines(run, summary)
            or [f"{what(summary)}: {summary.answered:,} of {summary.benchmark_questions:,} answered"]
        ),
        f"speed: {number(summary.p_infer_whole, ',.0f')} tokens/s whole, "
        f"{number(summary.p_infer_core, ',.0f')} core{_computed(summary)}; "
        f"p50 {milliseconds(summary.latency_p50_seconds)}, p99 {milliseconds(summary.latency_p99_seconds)}",
        *_device_lines(run),
        *reference_lines(run, summary),
        *remarks(run, summary),
        *_bottleneck_lines(run),
    ]


def _device_lines(run: FinishedRun) -> list[str]:
    model = run.model
    if model.peak_flops is None:
        return [f"device: {model.device.name}"] if model.device.name else []
    source = model.peak_source.partition(":")[0]
    return [f"device: {model.device.name or '/'}; peak {model.peak_flops / 1e12:.4g} TFLOP/s ({source})"]


def _computed(summary: Summary) -> str:
    if not summary.shares_contexts:
        return ""
    return f" ({number(summary.p_computed_core, ',.0f')} computed)"


def _accuracy_lines(summary: Summary, notice: str) -> list[str]:
    if summary.acc is None and summary.tasks is not None:
        return []
    return [
        f"accuracy: {accuracy(summary.acc, notice)}, 95 % interval "
        f"{interval(summary.acc_low, summary.acc_high)}"
    ]


def _bottleneck_lines(run: FinishedRun) -> list[str]:
    check = self_check(run)
    return [check.statement().partition("; ")[0]] if check is not None and check.is_bottleneck else []


def _subjects(run: FinishedRun, summary: Summary, view: View) -> list[str]:
    notice = run.model.notice
    return [
        f"{labelled(f'accuracy by {name}', notice)}:\n{_in_columns(figures, view.width)}"
        for name, figures in accuracy_parts(summary)
    ]


def _in_columns(figures: AccuracyFigures, width: int) -> str:
    """Return the accuracies in as many columns as the width allows, to be read downwards."""
    longest = max(map(len, figures))
    each = [f"{name:<{longest}} {number(part['acc'], '.3f')}" for name, part in figures.items()]
    columns = max(1, (width + 2) // (longest + 8))
    height = -(-len(each) // columns)
    return "\n".join("  ".join(each[row::height]) for row in range(height))


def sweep_text(points: Sequence[Point], view: View) -> str:
    """Return the text of a sweep with at least one load."""
    head = textwrap.fill(measured(points), view.width, break_long_words=False, break_on_hyphens=False)
    names, *rows = sweep_rows(points)
    short = tuple(name.replace("tokens/s", "tok/s") for name in names)
    parts = [head, stacked([short, *rows], view.width, repeated=1)]
    return "\n\n".join([*parts, *(wrapped([line], view.width) for line in marks(points))])


def load_line(point: Point) -> str:
    """Return one line about a load of a sweep."""
    summary = point.summary
    return (
        f"{point.name}: {summary.answered:,} of {summary.questions:,} questions, "
        f"{number(summary.p_infer_whole, ',.0f')} tokens/s, p50 {milliseconds(summary.latency_p50_seconds)}, "
        f"p99 {milliseconds(summary.latency_p99_seconds)}"
    )


def wrapped(lines: Iterable[str], width: int) -> str:
    """Wrap the lines between words only, so that a path can be copied."""
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in lines
    )


def stacked(rows: Sequence[Row], width: int, repeated: int = 0) -> str:
    """Return a table, which is split into several below each other where it is too wide.

    Args:
        rows: The rows, the head first.
        width: The characters in a line.
        repeated: How many of the first columns are repeated in each part.
    """
    columns = list(zip(*rows, strict=True))
    first, parts = columns[:repeated], [columns[:repeated]]
    for column in columns[repeated:]:
        if len(parts[-1]) > repeated and _width([*parts[-1], column]) > width:
            parts.append([*first])
        parts[-1].append(column)
    return "\n\n".join(markdown_table(list(zip(*part, strict=True))) for part in parts)


def _width(columns: Sequence[Row]) -> int:
    return 1 + sum(max(map(len, column)) + 3 for column in columns)
