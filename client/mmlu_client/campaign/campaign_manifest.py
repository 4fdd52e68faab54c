"""campaign_manifest.json: what a campaign is, as its folder tells it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmlu_client.campaign.cell import JOINT
from mmlu_client.campaign.file.axis import COORDINATES, REPETITION
from mmlu_client.rundir.json_file import read_json_file

CAMPAIGN = "campaign_manifest.json"
# Changed with what campaign_manifest.json or cell.json holds.
CAMPAIGN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class CellEntry:
    """A cell as the manifest names it.

    Attributes:
        name: its coordinates, joined; its folder has this name.
        coordinates: the name of its value by axis.
        baseline: the name of the cell that it is compared with; None: with none.
    """

    name: str
    coordinates: dict[str, str]
    baseline: str | None = None


@dataclass(frozen=True, kw_only=True)
class CampaignManifest:
    """What the folder says that the campaign is.

    Attributes:
        campaign_version: CAMPAIGN_VERSION of the client that wrote it.
        client_version: of that client.
        name: what pages and metrics call the campaign.
        file: the path of the campaign's file.
        content: the file's values.
        attempts: how often a cell is tried in one start of the campaign.
        baseline: the coordinates of the cells that others are compared with.
        cells: in the file's order.
    """

    campaign_version: int
    client_version: str
    name: str
    file: str
    content: dict[str, Any]
    attempts: int
    baseline: dict[str, str]
    cells: tuple[CellEntry, ...]

    @property
    def coordinates(self) -> list[str]:
        """The axes that a cell has a value on, in the order of a cell's name."""
        return [each for each in COORDINATES if any(each in cell.coordinates for cell in self.cells)]

    @property
    def varied(self) -> list[str]:
        """The axes on which cells differ."""
        return [
            each for each in self.coordinates if len({cell.coordinates.get(each) for cell in self.cells}) > 1
        ]

    @property
    def common(self) -> dict[str, str]:
        """The coordinates that all cells share; of a campaign that has no repetitions, without these."""
        first = self.cells[0].coordinates
        return {each: first[each] for each in self.coordinates if each not in (*self.varied, REPETITION)}

    def label(self, cell: CellEntry) -> str:
        """Return the coordinates in which cells differ, joined; of a campaign of one cell, its name."""
        return JOINT.join(cell.coordinates[each] for each in self.varied if each in cell.coordinates) or (
            cell.name
        )


def holds_campaign(folder: Path) -> bool:
    """Tell whether the folder is that of a campaign."""
    return (folder / CAMPAIGN).is_file()


def read_campaign_manifest(folder: Path) -> CampaignManifest:
    """Read what the campaign in this folder is.

    Raises:
        InputError: the folder holds no campaign, or one of another version.
    """
    return read_json_file(
        folder / CAMPAIGN,
        CampaignManifest,
        "a campaign's manifest",
        version=("campaign_version", CAMPAIGN_VERSION),
        remedy=f"`mmlu-client campaign FILE.yaml --output {folder}` writes it again",
    )
