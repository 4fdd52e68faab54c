"""What came out of one cell of a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trt_common.one_line import one_line

from mmlu_client.campaign.campaign_manifest import CellEntry
from mmlu_client.campaign.cell_state import FINISHED, WAITING, Attempt, CellState, State
from mmlu_client.campaign.outcome.comparison import Comparison
from mmlu_client.figures.summary import Summary
from mmlu_client.report.compare import Effect
from mmlu_client.rundir.folder import SUMMARY
from mmlu_client.rundir.json_file import read_json_file
from mmlu_client.rundir.manifest import read_manifest


@dataclass(frozen=True)
class Served:
    """What a cell was asked of, as its server told.

    Attributes:
        data: the name of the questions.
        model_id: of the model.
        notice: what a reader has to know of the model; empty: nothing.
        parameters: of the model; None where the server does not tell.
        engine_version: of the engine.
        device: the names of the servers' devices.
    """

    data: str
    model_id: str
    notice: str
    parameters: int | None
    engine_version: str
    device: str


@dataclass(frozen=True)
class Measured:
    """What a finished cell measured.

    Attributes:
        served: what was asked.
        summary: the figures.
    """

    served: Served
    summary: Summary


@dataclass(frozen=True)
class CellOutcome:
    """How a cell has fared.

    Attributes:
        entry: which cell it is.
        label: the coordinates in which the campaign's cells differ.
        folder: of its run, relative to the campaign's.
        progress: its state and attempts; None where it was never begun.
        measured: None for a cell that is not finished.
        comparison: with its baseline; None where there is none, or one of the two is not finished.
        trouble: why its files cannot be read; None where they can.
    """

    entry: CellEntry
    label: str
    folder: Path
    progress: CellState | None = None
    measured: Measured | None = None
    comparison: Comparison | None = None
    trouble: str | None = None

    @property
    def state(self) -> State:
        """How far it has come."""
        return WAITING if self.progress is None else self.progress.state

    @property
    def is_finished(self) -> bool:
        """Whether it has figures."""
        return self.state == FINISHED and self.measured is not None

    @property
    def summary(self) -> Summary | None:
        """Its figures; None for a cell that is not finished."""
        return self.measured.summary if self.measured else None

    @property
    def notice(self) -> str:
        """What a reader has to know of its model; empty: nothing, or it is not known yet."""
        return self.measured.served.notice if self.measured else ""

    def effect(self, key: str) -> Effect | None:
        """Return how a figure differs from the baseline's: less it, or over it; None: it is not compared."""
        found = self.comparison
        return None if found is None else found.differences.get(key, found.ratios.get(key))

    @property
    def last(self) -> Attempt | None:
        """The last attempt; None where there was none."""
        return self.progress.attempts[-1] if self.progress and self.progress.attempts else None

    @property
    def error(self) -> str | None:
        """What went wrong last, in one line; None where nothing did."""
        found = self.trouble or (self.progress.error if self.progress else None)
        return None if found is None else one_line(found)


def read_measured(folder: Path) -> Measured:
    """Read what the cell in this folder measured.

    Raises:
        InputError: a file of it cannot be read.
    """
    manifest = read_manifest(folder)
    model, devices = manifest.served_model, dict.fromkeys(each.device for each in manifest.servers)
    served = Served(
        data=manifest.data.name,
        model_id=model.id,
        notice=model.notice,
        parameters=model.parameters,
        engine_version=model.engine.version,
        device=", ".join(filter(None, devices)) or model.device.name,
    )
    return Measured(served, read_summary(folder))


def read_summary(folder: Path) -> Summary:
    """Read the figures of the run in this folder, as summary.json has them.

    Raises:
        InputError: it cannot be read, or is not one of this version.
    """
    remedy = f"`mmlu-client report {folder}` makes it again"
    return read_json_file(folder / SUMMARY, Summary, "a run's figures", remedy=remedy)
