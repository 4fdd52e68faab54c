"""The table of a sweep, with a row for each load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmlu_client.figures.catalogue import SWEPT, Figure
from mmlu_client.figures.caveats import mfu_lines
from mmlu_client.figures.summary import Summary
from mmlu_client.figures.sweep_point import Point
from mmlu_client.report.table import markdown_table

HEAD = ("load", "answered", *(column.head for _, column in SWEPT))


def sweep_table(points: Sequence[Point]) -> str:
    """Return Markdown that says what was measured, with a row for each load."""
    return "\n\n".join([measured(points), markdown_table(sweep_rows(points)), *marks(points)])


def sweep_rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Return the rows of the table, the head first."""
    return [HEAD, *((point.name, *load_cells(point.summary)) for point in points)]


def marks(points: Sequence[Point]) -> list[str]:
    """Return lines that explain the marks in the rows."""
    return mfu_lines([point.summary for point in points])


def measured(points: Sequence[Point]) -> str:
    """Return which model, data and engine were measured."""
    run, summary = points[0].run, points[0].summary
    # Whether requests were merged differs between loads; each row is marked instead.
    label = replace(summary, merged_share=None).engine_label
    return f"{run.model.id} on {run.manifest.data.name}, {label}, {summary.precision or '/'}, bs {summary.bs}"


def load_cells(summary: Summary) -> tuple[str, ...]:
    """Return the cells of a load's row, but for its name."""
    return (
        f"{summary.answered} of {summary.questions}",
        *(f"{summary.cell(figure.key, column.show)}{_merged(summary, figure)}" for figure, column in SWEPT),
    )


def _merged(summary: Summary, figure: Figure) -> str:
    return " (merged)" if figure.key == "mean_batch_size" and summary.merged_share else ""
