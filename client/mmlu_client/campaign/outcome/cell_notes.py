"""The lines below a table of a campaign's cells: what its marks mean, and what takes meaning from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mmlu_client.campaign.cell_state import FAILED, STATES, WAITING
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.figures.caveats import mfu_lines
from mmlu_client.report.compare_text import PEAKS_DIFFER

# Cells that a line names.
MOST_NAMED = 5


def states_line(outcome: CampaignOutcome) -> str:
    """Return `3 finished, 1 failed`: how many cells have come how far."""
    counts = Counter(cell.state for cell in outcome)
    return ", ".join(f"{counts[state]} {state}" for state in reversed(STATES) if counts[state])


def common_line(outcome: CampaignOutcome) -> str:
    """Return what all cells share; empty where they share nothing."""
    shared = ", ".join(f"{axis} {name}" for axis, name in outcome.manifest.common.items())
    return f"all cells: {shared}" if shared and outcome.manifest.varied else ""


def error_lines(outcome: CampaignOutcome) -> list[str]:
    """Return a line for each cell in which something went wrong, and which has not been finished since."""
    return [f"{cell.entry.name}: {cell.state}: {cell.error}" for cell in troubled(outcome)]


def troubled(outcome: CampaignOutcome) -> list[CellOutcome]:
    """Return the cells that failed, wait for another attempt, or cannot be read."""
    return [cell for cell in outcome if cell.error and (cell.trouble or cell.state in (FAILED, WAITING))]


def notices(outcome: CampaignOutcome) -> list[str]:
    """Return what a reader has to know of the cells' models, each once."""
    return list(dict.fromkeys(cell.notice for cell in outcome if cell.notice))


def notes(outcome: CampaignOutcome) -> list[str]:
    """Return the lines about the figures."""
    finished = [cell for cell in outcome if cell.summary]
    return [
        *_partial_lines(finished),
        *mfu_lines([cell.summary for cell in finished if cell.summary]),
        *_bottleneck_lines(finished),
        *_tie_lines(finished),
        *_baseline_lines(outcome),
        *_peak_lines(outcome),
    ]


def _partial_lines(cells: Sequence[CellOutcome]) -> list[str]:
    partial = [cell for cell in cells if cell.summary and cell.summary.is_partial]
    if not partial:
        return []
    return [f"acc *: fewer questions were answered than the data have, in {_named(partial)}"]


def _bottleneck_lines(cells: Sequence[CellOutcome]) -> list[str]:
    kept_back = [cell for cell in cells if cell.summary and cell.summary.client_is_bottleneck]
    return [f"THE CLIENT WAS A BOTTLENECK in {_named(kept_back)}"] if kept_back else []


def _tie_lines(cells: Sequence[CellOutcome]) -> list[str]:
    tied = [cell for cell in cells if cell.summary and 0 < cell.summary.tied == cell.summary.answered]
    return [f"NOTHING WAS MEASURED in {_named(tied)}: letters tie on every question"] if tied else []


def _baseline_lines(outcome: CampaignOutcome) -> list[str]:
    baseline = outcome.manifest.baseline
    if not baseline:
        return []
    where = ", ".join(f"{axis} {name}" for axis, name in baseline.items())
    apart = [cell for cell in outcome if cell.comparison and not cell.comparison.agreement.questions]
    return [
        f"baseline: each cell is compared with the one of {where} that has its other coordinates",
        *([f"no question in common with the baseline: {_named(apart)}"] if apart else []),
    ]


def _peak_lines(outcome: CampaignOutcome) -> list[str]:
    """Say of which cells MFU is on another scale than the baseline's."""
    peaks = {cell.entry.name: cell.summary.peak_flops for cell in outcome if cell.summary}
    apart = []
    for cell in outcome:
        mine, theirs = peaks.get(cell.entry.name), peaks.get(cell.entry.baseline or "")
        if mine and theirs and abs(mine / theirs - 1) > PEAKS_DIFFER:
            apart.append(cell)
    if not apart:
        return []
    return [
        f"the peak differs from the baseline's by more than {PEAKS_DIFFER:.0%}, so that MFU is on another "
        f"scale, in {_named(apart)}"
    ]


def _named(cells: Sequence[CellOutcome]) -> str:
    names = ", ".join(cell.label for cell in cells[:MOST_NAMED])
    more = len(cells) - MOST_NAMED
    return f"{names} and {more} more" if more > 0 else names
