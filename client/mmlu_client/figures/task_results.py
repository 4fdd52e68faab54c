"""The metrics of lm-eval's tasks and groups, computed by lm-eval's own functions from a run's records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmlu_client.rundir.document_metrics import read_document_metrics
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.tasks.installed import lm_eval_module

STDERR = "_stderr"


def task_results(run: FinishedRun) -> dict[str, Any] | None:
    """Compute the results of a run's tasks, as lm-eval's results file has them.

    Returns:
        The keys of `tasks.aggregation.aggregate`; None where the run asked no tasks.

    Raises:
        InputError: lm-eval is not installed, or a task's own function of aggregation cannot be loaded.
    """
    part = run.manifest.tasks
    if part is None:
        return None
    aggregation: Any = lm_eval_module("aggregation", f"the metrics of the tasks in {run.folder}: this")
    found: dict[str, Any] = aggregation.aggregate(part, read_document_metrics(run.folder))
    return found


@dataclass(frozen=True)
class TaskFigure:
    """One metric of a task or a group.

    Attributes:
        task: the name of the task or the group.
        metric: the metric's name and, where it is not lm-eval's usual one, its filter's.
        value: of the metric.
        stderr: its standard error; None where lm-eval has none.
        documents: how many were answered.
    """

    task: str
    metric: str
    value: float | None
    stderr: float | None
    documents: int


def task_figures(results: Mapping[str, Mapping[str, Any]]) -> Iterator[TaskFigure]:
    """Yield the metrics of `Summary.tasks`, in its order."""
    for task, figures in results.items():
        for key, value in figures.items():
            metric, comma, name = key.partition(",")
            if comma and not metric.endswith(STDERR):
                error = figures.get(f"{metric}{STDERR},{name}")
                shown = metric if name == "none" else f"{metric} ({name})"
                yield TaskFigure(task, shown, value, error, figures["sample_len"])


def figures_of(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what summary.json holds of lm-eval's results: a task's or a group's metrics by its name.

    What lm-eval calls not available is None.
    """
    return {
        task: {
            key: None if value == "N/A" else value
            for key, value in figures.items()
            if "," in key or key == "sample_len"
        }
        for task, figures in results["results"].items()
    }
