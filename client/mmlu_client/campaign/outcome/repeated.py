"""A campaign's cells without their repetition: how far the figures of the same run differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mmlu_client.campaign.campaign_manifest import CampaignManifest
from mmlu_client.campaign.cell import JOINT
from mmlu_client.campaign.file.axis import REPETITION
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.text import number

# The head, the figure, what it is multiplied with, and the format of its mean and its deviation.
SHOWN_REPEATED = (
    ("acc", "acc", 1.0, ".4f"),
    ("tok/s whole", "p_infer_whole", 1.0, ",.0f"),
    ("tok/s core", "p_infer_core", 1.0, ",.0f"),
    ("MFU, %", "mfu", 100.0, ".1f"),
    ("p50, ms", "latency_p50_seconds", 1000.0, ",.1f"),
    ("p99, ms", "latency_p99_seconds", 1000.0, ",.1f"),
    ("J/1000 tok", "joules_per_token", 1000.0, ",.3g"),
    ("e2e, s", "e2e_time", 1.0, ",.1f"),
)


@dataclass(frozen=True)
class Spread:
    """A figure over repetitions.

    Attributes:
        mean: over those that have it.
        deviation: the standard deviation of a sample, with n - 1; None of fewer than two.
        count: how many have it.
    """

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Repeated:
    """The repetitions of one run.

    Attributes:
        label: the other coordinates in which the campaign's cells differ.
        cells: the repetitions, in the file's order.
    """

    label: str
    cells: Sequence[CellOutcome]

    @property
    def finished(self) -> list[CellOutcome]:
        """Those that have figures."""
        return [cell for cell in self.cells if cell.is_finished]

    def spread(self, key: str) -> Spread | None:
        """Return a figure of summary.json over the finished repetitions; None where none has it."""
        found = [getattr(cell.summary, key) for cell in self.finished]
        values = [value for value in found if value is not None]
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return Spread(statistics.fmean(values), deviation, len(values))


def repeated(manifest: CampaignManifest, cells: Sequence[CellOutcome]) -> list[Repeated]:
    """Return the runs that a campaign repeats, in the file's order; none where it repeats none."""
    axes = [each for each in manifest.varied if each != REPETITION]
    groups: dict[tuple[tuple[str, str], ...], list[CellOutcome]] = {}
    for cell in cells:
        others = tuple(item for item in cell.entry.coordinates.items() if item[0] != REPETITION)
        groups.setdefault(others, []).append(cell)
    if all(len(group) == 1 for group in groups.values()):
        return []
    return [
        Repeated(
            JOINT.join(value for axis, value in others if axis in axes)
            or JOINT.join(value for _, value in others),
            group,
        )
        for others, group in groups.items()
    ]


def repeated_rows(found: Sequence[Repeated]) -> list[tuple[str, ...]]:
    """Return the rows of a table of repetitions, the head first; empty where nothing is repeated.

    A figure is the mean of the finished ones, and their standard deviation where there are two or more.
    """
    if not found:
        return []
    shown = [column for column in SHOWN_REPEATED if any(each.spread(column[1]) is not None for each in found)]
    return [
        ("run", "finished", *(head for head, *_ in shown)),
        *(
            (
                each.label,
                f"{len(each.finished)} of {len(each.cells)}",
                *(_spread(each.spread(key), scale, form) for _, key, scale, form in shown),
            )
            for each in found
        ),
    ]


def _spread(found: Spread | None, scale: float, form: str) -> str:
    if found is None:
        return "/"
    mean = number(found.mean * scale, form)
    return mean if found.deviation is None else f"{mean} ± {number(found.deviation * scale, form)}"
