"""What came out of a campaign's cells so far, read from the campaign's folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from mmlu_client.campaign.campaign_manifest import CampaignManifest, CellEntry, read_campaign_manifest
from mmlu_client.campaign.cell_state import FINISHED, read_cell_state
from mmlu_client.campaign.folder import CELLS
from mmlu_client.campaign.outcome.cell_outcome import CellOutcome, Measured, read_measured
from mmlu_client.campaign.outcome.comparison import Comparison, compared
from mmlu_client.errors import ClientError
from mmlu_client.rundir.folder import SUMMARY

# Another one for each file that takes the place of an earlier one.
Stamp: TypeAlias = tuple[int, int]


class CampaignOutcome:
    """The cells of a campaign, read anew where something has changed since they were read last.

    Attributes:
        folder: of the campaign.
        manifest: what the campaign is.
        cells: in the file's order.
    """

    def __init__(self, folder: Path) -> None:
        """Read the campaign in this folder.

        Raises:
            InputError: it holds none.
        """
        self.folder = folder
        self.manifest: CampaignManifest = read_campaign_manifest(folder)
        self._measured: dict[str, tuple[Stamp, Measured]] = {}
        self._comparisons: dict[str, tuple[Stamp, Stamp, Comparison]] = {}
        self.cells: list[CellOutcome] = []
        self.read()

    def __iter__(self) -> Iterator[CellOutcome]:
        return iter(self.cells)

    def read(self) -> None:
        """Read how the cells have fared by now. What cannot be read of one is told in its `trouble`."""
        found = {entry.name: self._cell(entry) for entry in self.manifest.cells}
        self.cells = [
            self._held_against(cell, found.get(cell.entry.baseline or "")) for cell in found.values()
        ]

    def path(self, cell: CellOutcome) -> Path:
        """Return the folder of a cell's run."""
        return self.folder / cell.folder

    def _cell(self, entry: CellEntry) -> CellOutcome:
        cell = CellOutcome(entry, self.manifest.label(entry), Path(CELLS) / entry.name)
        try:
            cell = replace(cell, progress=read_cell_state(self.path(cell)))
            if cell.state == FINISHED:
                cell = replace(cell, measured=self._measured_in(cell))
        except ClientError as error:
            cell = replace(cell, trouble=str(error))
        return cell

    def _measured_in(self, cell: CellOutcome) -> Measured:
        stamp, known = self._stamp(cell), self._measured.get(cell.entry.name)
        if known is not None and known[0] == stamp:
            return known[1]
        measured = read_measured(self.path(cell))
        self._measured[cell.entry.name] = stamp, measured
        return measured

    def _held_against(self, cell: CellOutcome, baseline: CellOutcome | None) -> CellOutcome:
        if baseline is None or not (baseline.is_finished and cell.is_finished):
            return cell
        stamps, known = (self._stamp(baseline), self._stamp(cell)), self._comparisons.get(cell.entry.name)
        if known is not None and known[:2] == stamps:
            return replace(cell, comparison=known[2])
        try:
            comparison = compared(self.path(baseline), self.path(cell))
        except ClientError as error:
            return replace(cell, trouble=f"cannot be compared with {baseline.entry.name}: {error}")
        self._comparisons[cell.entry.name] = *stamps, comparison
        return replace(cell, comparison=comparison)

    def _stamp(self, cell: CellOutcome) -> Stamp:
        try:
            found = (self.path(cell) / SUMMARY).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino
