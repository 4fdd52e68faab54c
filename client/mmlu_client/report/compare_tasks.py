"""The metrics of tasks that two runs have in common, held against each other document by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmlu_client.figures.statistics import Interval, mcnemar, paired_difference
from mmlu_client.figures.task_results import task_figures
from mmlu_client.report.task_table import metric_value
from mmlu_client.rundir.document_metrics import read_document_metrics
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.tasks.document import DocumentMetrics
from mmlu_client.text import p_value

# A metric's values by the task and the number of the document.
Values = dict[tuple[str, int], object]


@dataclass(frozen=True)
class MetricContrast:
    """How a task's metric differs between two runs.

    Attributes:
        task: The name of the task or the group.
        metric: The metric's name, with its filter's where that is not lm-eval's usual one.
        first: The first run's value.
        other: The other run's value.
        interval: The 95 % interval of other - first, where the metric of a document is 0 or 1.
        p_value: Two-sided p of McNemar's exact test, where the metric of a document is 0 or 1.
        documents: How many both answered; 0 for a group.
    """

    task: str
    metric: str
    first: float
    other: float
    interval: Interval | None
    p_value: float | None
    documents: int

    @property
    def difference(self) -> float:
        """The other run's value less the first's."""
        return self.other - self.first


def metric_contrasts(
    first: FinishedRun,
    other: FinishedRun,
    first_figures: Mapping[str, Mapping[str, float]] | None,
    other_figures: Mapping[str, Mapping[str, float]] | None,
) -> list[MetricContrast]:
    """Compare the metrics that both runs have; none where one of them asked no tasks.

    Args:
        first: The first run.
        other: The other run.
        first_figures: `Summary.tasks` of the first run.
        other_figures: That of the other.
    """
    if not first_figures or not other_figures:
        return []
    mine, theirs = (_by_metric(read_document_metrics(run.folder)) for run in (first, other))
    values = {(each.task, each.metric): each.value for each in task_figures(other_figures)}
    return [
        _contrast(
            (each.task, each.metric),
            each.value,
            value,
            mine.get((each.task, each.metric), {}),
            theirs.get((each.task, each.metric), {}),
        )
        for each in task_figures(first_figures)
        if each.value is not None and (value := values.get((each.task, each.metric))) is not None
    ]


def metric_rows(contrasts: Sequence[MetricContrast], first: str, other: str) -> list[tuple[str, ...]]:
    """Return the rows of a table, the head first; empty where there is nothing to compare.

    Args:
        contrasts: The metrics.
        first: The label of the first run.
        other: That of the other run.
    """
    if not contrasts:
        return []
    head = ("task", "metric", first, other, f"{other} - {first} (95 % interval)", "paired test")
    return [head, *map(_row, contrasts)]


def _row(contrast: MetricContrast) -> tuple[str, ...]:
    spread = contrast.interval
    within = f" ({spread.low:+.4f} … {spread.high:+.4f})" if spread else ""
    return (
        contrast.task,
        contrast.metric,
        metric_value(contrast.first),
        metric_value(contrast.other),
        f"{contrast.difference:+.4f}{within}",
        "/" if contrast.p_value is None else f"{p_value(contrast.p_value)} of {contrast.documents:,}",
    )


def _by_metric(documents: Sequence[DocumentMetrics]) -> dict[tuple[str, str], Values]:
    found: dict[tuple[str, str], Values] = {}
    for each in documents:
        for name, metrics in each.metrics.items():
            for metric, value in metrics.items():
                key = each.task, metric if name == "none" else f"{metric} ({name})"
                found.setdefault(key, {})[each.task, each.index] = value
    return found


def _contrast(
    name: tuple[str, str], first: float, other: float, mine: Values, theirs: Values
) -> MetricContrast:
    common = sorted(mine.keys() & theirs.keys())
    pairs = [(mine[key], theirs[key]) for key in common]
    if not pairs or not all(_is_zero_or_one(value) for pair in pairs for value in pair):
        return MetricContrast(*name, first, other, None, None, len(common))
    both, only_other, only_first, neither = (
        sum((bool(left), bool(right)) == kind for left, right in pairs)
        for kind in ((True, True), (False, True), (True, False), (False, False))
    )
    return MetricContrast(
        *name,
        first,
        other,
        paired_difference(both, only_other, only_first, neither),
        mcnemar(only_first, only_other),
        len(common),
    )


def _is_zero_or_one(value: object) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)
