"""A cell's run held against that of its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlu_client.figures.accuracy import Agreement
from mmlu_client.report.compare import Effect, contrasts_of, sides_of
from mmlu_client.report.compare_tasks import MetricContrast
from mmlu_client.rundir.finished_run import read_run


@dataclass(frozen=True)
class Comparison:
    """What `mmlu-client compare` would say of a cell, without its questions.

    Attributes:
        differences: the cell's figure less its baseline's, by figure.
        ratios: the cell's figure over its baseline's, by figure.
        agreement: how far their answers agree; the baseline's run is the first.
        metrics: of lm-eval's tasks that both have.
    """

    differences: Mapping[str, Effect]
    ratios: Mapping[str, Effect]
    agreement: Agreement
    metrics: Sequence[MetricContrast]


def compared(baseline: Path, folder: Path) -> Comparison:
    """Compare the run in a folder with the run in its baseline's folder.

    Raises:
        InputError: one of the folders holds no run, or a file of it cannot be read.
    """
    sides = sides_of([read_run(baseline), read_run(folder)])
    (found,) = contrasts_of(sides)
    differences = dict(found.accuracies)
    if any(side.summary.acc is None for side in sides):
        # Of several tasks together an accuracy means nothing, and nor does a difference.
        differences["acc"] = Effect(None)
    return Comparison(differences, found.ratios, found.agreement, found.metrics)
