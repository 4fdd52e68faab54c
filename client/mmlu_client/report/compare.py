"""The comparison of runs: how each differs from the first in figures, answers and manifest."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmlu_client.figures.accuracy import (
    Agreement,
    agreement_of,
    differing,
    logprob_differences,
    paired,
)
from mmlu_client.figures.arithmetic import ratio
from mmlu_client.figures.catalogue import DIFFERENCES, RATIOS
from mmlu_client.figures.formulas import summarize
from mmlu_client.figures.resampling import ratio_interval, resampled
from mmlu_client.figures.statistics import Interval, paired_difference
from mmlu_client.figures.summary import Summary
from mmlu_client.report.compare_tasks import MetricContrast, metric_contrasts
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import differences
from mmlu_client.rundir.record import INFER
from mmlu_client.rundir.record_table import RecordTable

# Not reported: these differ between any two runs, or are part of load.description.
ALWAYS_DIFFERENT = (
    "started", "sessions", "command_line", "flags", "device.memory", "device.energy", "device.power",
    "device.temperature", "device.sm_clock", "peak.flops_per_second", "engine.load_seconds",
    "engine.build_seconds",
    "reference.load_seconds", "reference.build_seconds", "tasks.tasks", "tasks.groups",
    "concurrency", "load.concurrency", "load.mode", "load.rate", "load.pattern",
)  # fmt: skip
# The code that measured: before all else, because only the first few are shown.
CODE = ("client.version", "server_version")


@dataclass(frozen=True)
class Side:
    """One of the compared runs.

    Attributes:
        label: Its name in the comparison: A, B, …
        run: The run.
        summary: Its figures.
    """

    label: str
    run: FinishedRun
    summary: Summary

    @property
    def infer(self) -> RecordTable:
        """The records of the compiled engine."""
        return self.run.records.phase(INFER)

    def figure(self, name: str) -> float | None:
        """Return a figure of the summary by its name."""
        value: float | None = getattr(self.summary, name)
        return value


@dataclass(frozen=True)
class Effect:
    """How a figure differs between two runs: as a ratio or as a difference.

    Attributes:
        value: The ratio to the first run's figure, or the difference from it.
        interval: Its 95 % interval, where one can be computed.
    """

    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Letters:
    """A question on which two runs chose different letters.

    Attributes:
        subject: The subject.
        index: The number of the question in its subject.
        answer: The correct letter.
        first: The first run's letter.
        other: The other run's letter.
        logprob_difference: The largest difference of a candidate's log-probability, in nats.
    """

    subject: str
    index: int
    answer: str
    first: str
    other: str
    logprob_difference: float


@dataclass(frozen=True)
class Contrast:
    """The comparison of a run with the first.

    Attributes:
        first: The first run.
        other: The other run.
        ratios: other / first, by figure.
        accuracies: other - first on the questions that both answered, by figure.
        subjects: The same for each subject.
        agreement: How far their answers agree.
        letters: The questions on which they chose different letters.
        metrics: The metrics of lm-eval's tasks that both have.
        manifest: The entries in which the manifests differ: dotted name, first value, other value.
    """

    first: Side
    other: Side
    ratios: Mapping[str, Effect]
    accuracies: Mapping[str, Effect]
    subjects: Mapping[str, Effect]
    agreement: Agreement
    letters: Sequence[Letters]
    metrics: Sequence[MetricContrast]
    manifest: Sequence[tuple[str, Any, Any]]


def sides_of(runs: Sequence[FinishedRun]) -> list[Side]:
    """Label the runs and compute their figures."""
    return [Side(_label(place), run, summarize(run)) for place, run in enumerate(runs)]


def contrasts_of(sides: Sequence[Side]) -> list[Contrast]:
    """Compare each run after the first with the first."""
    first, *others = sides
    draws = [resampled(side.run, seed) for seed, side in enumerate(sides)]
    return [
        _contrast(first, other, _ratios(first, other, draws[0], drawn))
        for other, drawn in zip(others, draws[1:], strict=True)
    ]


def _contrast(first: Side, other: Side, ratios: Mapping[str, Effect]) -> Contrast:
    left, right = paired(first.infer, other.infer)
    subjects = np.unique(left["subject"].astype(str)).tolist()
    return Contrast(
        first,
        other,
        ratios,
        {figure.key: _accuracy(figure.key, first, other, left, right) for figure in DIFFERENCES},
        {
            name: _difference(*(each.where(each["subject"] == name) for each in (left, right)))
            for name in subjects
        },
        agreement_of(left, right),
        _letters(left, right),
        metric_contrasts(first.run, other.run, first.summary.tasks, other.summary.tasks),
        _manifest(first.run, other.run),
    )


def _label(place: int) -> str:
    letters = string.ascii_uppercase
    return letters[place] if place < len(letters) else f"{letters[place % 26]}{place // 26 + 1}"


def _ratios(
    first: Side, other: Side, mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Effect]:
    return {
        name: Effect(
            ratio(other.figure(name), first.figure(name)),
            ratio_interval(theirs[name], mine[name]) if name in mine and name in theirs else None,
        )
        for name in (figure.key for figure in RATIOS)
    }


def _accuracy(name: str, first: Side, other: Side, left: RecordTable, right: RecordTable) -> Effect:
    if name == "acc":
        return _difference(left, right)
    before, after = first.figure(name), other.figure(name)
    return Effect(None if before is None or after is None else after - before)


def _difference(left: RecordTable, right: RecordTable) -> Effect:
    """Return the difference of the shares of correct answers on the same questions."""
    mine, theirs = left.correct, right.correct
    counts = (int(each.sum()) for each in (theirs & mine, theirs & ~mine, mine & ~theirs, ~theirs & ~mine))
    return Effect(
        float(theirs.mean() - mine.mean()) if len(left) else None,
        paired_difference(*counts),
    )


def _letters(left: RecordTable, right: RecordTable) -> list[Letters]:
    apart = logprob_differences(left, right)
    return [
        Letters(
            str(left["subject"][row]),
            int(left["index"][row]),
            str(left["answer"][row]),
            str(left["predicted"][row]),
            str(right["predicted"][row]),
            float(apart[row]),
        )
        for row in differing(left, right)
    ]


def _manifest(first: FinishedRun, other: FinishedRun) -> list[tuple[str, Any, Any]]:
    found = differences(_comparable(first), _comparable(other))
    shown = [each for each in found if not each[0].startswith(ALWAYS_DIFFERENT)]
    return sorted(shown, key=lambda each: each[0] not in CODE)


def _comparable(run: FinishedRun) -> dict[str, Any]:
    """Return the manifest with each server described in a few words."""
    servers = dict.fromkeys(f"{server.name} on {server.device}" for server in run.manifest.servers)
    return {**run.manifest.as_json(), "servers": ", ".join(servers)}
