"""The metrics of tasks as a table."""

from __future__ import annotations

from mmlu_client.figures.summary import Summary
from mmlu_client.figures.task_results import TaskFigure, task_figures
from mmlu_client.text import labelled, number, significant


def task_rows(summary: Summary, notice: str) -> list[tuple[str, ...]]:
    """Return a row for each metric of a task or a group, the head first; empty where no tasks were asked."""
    if not summary.tasks:
        return []
    head = ("task", "metric", labelled("value", notice), "±", "documents")
    return [head, *map(_row, task_figures(summary.tasks))]


def _row(figure: TaskFigure) -> tuple[str, ...]:
    return (
        figure.task,
        figure.metric,
        metric_value(figure.value),
        number(figure.stderr, ".4f"),
        f"{figure.documents:,}",
    )


def metric_value(value: float | None) -> str:
    """Return a metric with four decimals, and with seven significant digits where it is large."""
    return significant(value, 7) if value is not None and abs(value) >= 100 else number(value, ".4f")
