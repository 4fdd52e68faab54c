"""The page of a campaign: a table of its cells to sort and to filter, and charts of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmlu_client.campaign.campaign_manifest import CampaignManifest
from mmlu_client.campaign.cell import JOINT
from mmlu_client.campaign.folder import CLIENT_LOG
from mmlu_client.campaign.outcome.cell_columns import Bar, CellColumn, cell_columns
from mmlu_client.campaign.outcome.cell_notes import common_line, notes, notices, states_line, troubled
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.repeated import repeated, repeated_rows
from mmlu_client.pages.campaign_charts import campaign_charts
from mmlu_client.pages.page import drawn, page
from mmlu_client.rundir.folder import HTML
from mmlu_client.rundir.manifest import now

# Beside the page; its table has the most important figures alone.
ROW_FILES = ("campaign.csv", "campaign.parquet", "campaign.json")
# The pixels of a drawn interval.
BAR_WIDTH, BAR_MARGIN = 96, 5


def campaign_page(outcome: CampaignOutcome) -> str:
    """Return the page, which lies in the campaign's folder: its links are relative to that."""
    columns, manifest = cell_columns(outcome), outcome.manifest
    scales = [_scale(outcome, column) for column in columns]
    return page(
        "campaign.html.jinja",
        drawn(campaign_charts(outcome)),
        _manifest(manifest),
        title=f"Campaign {manifest.name}: {states_line(outcome)}",
        started=now().utc,
        notices=notices(outcome),
        common=common_line(outcome),
        columns=[
            {"head": each.head, "about": each.about, "is_number": _is_number(outcome, each)}
            for each in columns
        ],
        cells=[_cell(outcome, cell, place, columns, scales) for place, cell in enumerate(outcome)],
        filters=_filters(manifest),
        marks=notes(outcome),
        troubled=[_trouble(outcome, cell) for cell in troubled(outcome)],
        repeated=repeated_rows(repeated(manifest, outcome.cells)),
        files=ROW_FILES,
        manifest_title="Manifest: what this campaign is",
    )


def _manifest(manifest: CampaignManifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "file": manifest.file,
        "client_version": manifest.client_version,
        "attempts": manifest.attempts,
        "content": manifest.content,
    }


def _cell(
    outcome: CampaignOutcome,
    cell: CellOutcome,
    place: int,
    columns: Sequence[CellColumn],
    scales: Sequence[tuple[float, float] | None],
) -> dict[str, Any]:
    return {
        "label": cell.label.split(JOINT),
        "name": cell.entry.name,
        "place": place,
        "link": _link(outcome, cell, HTML),
        "state": cell.state,
        "text": " ".join([cell.entry.name, cell.state, cell.error or ""]).lower(),
        "coordinates": [cell.entry.coordinates.get(each, "") for each in outcome.manifest.varied],
        "shown": [
            {
                "shown": column.show(cell),
                "key": column.key(cell),
                "bar": _bar(column.bar(cell), scale, column.level),
            }
            for column, scale in zip(columns, scales, strict=True)
        ],
    }


def _link(outcome: CampaignOutcome, cell: CellOutcome, name: str) -> str | None:
    """Return the address of a file of a cell's folder; None where it is not there."""
    path: Path = cell.folder / name
    return quote(path.as_posix()) if (outcome.folder / path).is_file() else None


def _is_number(outcome: CampaignOutcome, column: CellColumn) -> bool:
    return not any(isinstance(column.key(cell), str) for cell in outcome)


def _scale(outcome: CampaignOutcome, column: CellColumn) -> tuple[float, float] | None:
    """Return the ends of the axis that a column's bars share; None where it has no bars."""
    bars = [bar for cell in outcome if (bar := column.bar(cell))]
    if not bars:
        return None
    ends = [end for bar in bars for end in (bar.low, bar.high)]
    ends += [] if column.level is None else [column.level]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _bar(bar: Bar | None, scale: tuple[float, float] | None, level: float | None) -> dict[str, float] | None:
    """Return where the ends of a bar are, in pixels; None where nothing is drawn."""
    if bar is None or scale is None:
        return None

    def pixel(value: float) -> float:
        share = (value - scale[0]) / (scale[1] - scale[0])
        return round(BAR_MARGIN + share * (BAR_WIDTH - 2 * BAR_MARGIN), 1)

    places = {"low": pixel(bar.low), "value": pixel(bar.value), "high": pixel(bar.high), "width": BAR_WIDTH}
    return places if level is None else {**places, "level": pixel(level)}


def _filters(manifest: CampaignManifest) -> list[tuple[str, list[str]]]:
    """Return the axes on which cells differ, with the names of their values in the file's order."""
    return [
        (
            axis,
            list(dict.fromkeys(name for cell in manifest.cells if (name := cell.coordinates.get(axis)))),
        )
        for axis in manifest.varied
    ]


def _trouble(outcome: CampaignOutcome, cell: CellOutcome) -> dict[str, Any]:
    return {
        "name": cell.entry.name,
        "log": _link(outcome, cell, CLIENT_LOG),
        "state": cell.state,
        "attempts": len(cell.progress.attempts) if cell.progress else 0,
        "error": cell.error,
    }
