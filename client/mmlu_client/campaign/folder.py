"""DIR, the folder of a campaign: what lies where, and how far each cell has come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from trt_common.locked_file import locked
from trt_common.private_file import make_private_folder
from trt_common.version import version

from mmlu_client.campaign.campaign_manifest import CAMPAIGN, CAMPAIGN_VERSION
from mmlu_client.campaign.cell import Cell, ServerSetting
from mmlu_client.campaign.cell_state import (
    CELL,
    FAILED,
    FINISHED,
    RUNNING,
    WAITING,
    CellState,
    read_cell_state,
    write_cell_state,
)
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.errors import ClientError, InputError, RunError
from mmlu_client.figures.ending import DONE, DURATION, EARLY_STOP
from mmlu_client.rundir.finished_run import FinishedRun, read_run
from mmlu_client.rundir.folder import RECORDS, SUMMARY, holds_answers, write_text
from mmlu_client.rundir.manifest import differences, json_text

LOCK = "campaign.lock"
CELLS, SERVERS, FLAWED = "cells", "servers", "flawed"
CLIENT_LOG = "client.log"
# Ends of a run after which nothing is left to ask.
ENDS = (DONE, EARLY_STOP, DURATION)


class CampaignFolder:
    """The files of one campaign.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def cell(self, cell: Cell) -> Path:
        """Return the folder of a cell's run."""
        return self.path / CELLS / cell.name

    def server_log(self, setting: ServerSetting, lane: int) -> Path:
        """Return the file that holds what the server of a lane said.

        Args:
            setting: that of the server.
            lane: the lane's number, from 0.
        """
        return self.path / SERVERS / setting.name / f"server-{lane + 1}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other campaign out of the folder, which is made.

        Raises:
            InputError: another one runs there.
            RunError: it cannot be made.
        """
        with contextlib.ExitStack() as stack:
            try:
                make_private_folder(self.path)
                is_free = stack.enter_context(locked(self.path / LOCK))
            except OSError as error:
                raise RunError(f"cannot make --output {self.path}: {error.strerror}") from None
            if not is_free:
                raise InputError(f"--output {self.path}: another campaign runs there; wait for its end")
            yield

    def check_fits(self, campaign: Campaign) -> None:
        """Check that the cells which the folder has are those of the file.

        Cells that the file has no more stay as they are.

        Raises:
            InputError: one of them is another, or the folder holds something else.
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise InputError(f"--output {self.path} is not a folder")
        if not (self.path / CAMPAIGN).exists():
            if others := [each.name for each in self.path.iterdir() if each.name != LOCK]:
                raise InputError(
                    f"--output {self.path} is not empty and holds no campaign ({min(others)}): name "
                    "another folder"
                )
            return
        for cell in campaign.cells:
            state = read_cell_state(self.cell(cell))
            # What JSON makes of it.
            now = json.loads(json.dumps(cell.definition))
            if state is not None and state.definition != now:
                name, before, after = next(iter(differences(state.definition, now)))
                raise InputError(
                    f"{campaign.path}:{cell.line}: cell {cell.name} was made with {name} "
                    f"{json.dumps(before)}, now it is {json.dumps(after)}: give it another name, name "
                    f"another --output, or remove {self.cell(cell)}"
                )

    def open(self, campaign: Campaign) -> None:
        """Write what the campaign is, a state for each cell, and figures that a kill has prevented.

        Raises:
            RunError: it cannot be written.
        """
        content = {
            "campaign_version": CAMPAIGN_VERSION,
            "client_version": version(),
            "name": campaign.name,
            "file": str(campaign.path.resolve()),
            "content": campaign.content,
            "attempts": campaign.attempts,
            "baseline": dict(campaign.baseline),
            "cells": [
                {
                    "name": cell.name,
                    **cell.definition,
                    "resources": asdict(cell.setting.resources),
                    "baseline": each.name if (each := campaign.baseline_of(cell)) else None,
                }
                for cell in campaign.cells
            ],
        }
        write_text(self.path / CAMPAIGN, json_text(content))
        for cell in campaign.cells:
            try:
                make_private_folder(self.cell(cell))
            except OSError as error:
                raise RunError(f"cannot make {self.cell(cell)}: {error.strerror}") from None
            state = self.state(cell)
            if state.state == FINISHED:
                write_missing_figures(self.cell(cell))
            write_cell_state(self.cell(cell), state)

    def state(self, cell: Cell) -> CellState:
        """Return how far a cell has come, as a new start finds it.

        One that was on when the campaign was killed waits again, or is finished if its run is; one that
        failed waits again.

        Raises:
            InputError: its file cannot be read.
        """
        found = read_cell_state(self.cell(cell))
        if found is None:
            return CellState(definition=cell.definition, state=WAITING)
        if found.state == RUNNING:
            if is_sound(self.cell(cell)):
                return found.ended(FINISHED, 0, None)
            return found.ended(WAITING, None, "the campaign was killed in this attempt")
        if found.state == FINISHED and not (self.cell(cell) / SUMMARY).is_file():
            return CellState(definition=cell.definition, state=WAITING, attempts=found.attempts)
        if found.state == FAILED:
            return CellState(definition=cell.definition, state=WAITING, attempts=found.attempts)
        return found

    def make_room(self, cell: Cell) -> None:
        """Move what is in a cell's folder, and cannot be gone on with, to where it is kept.

        That is a run which was completed and in which something is wrong.

        Raises:
            RunError: it cannot be moved.
        """
        folder = self.cell(cell)
        is_begun = holds_answers(folder) and not is_complete(folder)
        if is_begun or not any(_has_content(folder / name) for name in (RECORDS, SUMMARY)):
            return
        number = 1
        while (kept := self.path / FLAWED / f"{cell.name}.{number}").exists():
            number += 1
        try:
            make_private_folder(kept)
            for path in folder.iterdir():
                if path.name not in (CLIENT_LOG, CELL):
                    path.rename(kept / path.name)
        except OSError as error:
            raise RunError(f"cannot move {folder} to {kept}: {error.strerror}") from None


def is_complete(folder: Path) -> bool:
    """Tell whether a cell's run came to its end, whatever it found."""
    return _completed(folder) is not None


def is_sound(folder: Path) -> bool:
    """Tell whether a cell's run came to its end, and nothing is wrong with it."""
    from mmlu_client.figures.formulas import summarize
    from mmlu_client.report.outcome import flaw

    run = _completed(folder)
    return run is not None and flaw(run, summarize(run)) is None


def write_missing_figures(folder: Path) -> None:
    """Write the figures of a run whose client was killed between its last answer and them.

    Raises:
        RunError: they cannot be written.
    """
    from mmlu_client.figures.formulas import summarize
    from mmlu_client.pages.run_page import drawn_charts, html_report
    from mmlu_client.report.outcome import figure_files, write_files

    run = _completed(folder)
    if run is not None and not (folder / SUMMARY).is_file():
        summary, charts = summarize(run), drawn_charts(run)
        for error in write_files(figure_files(run, summary, lambda: html_report(run, summary, charts))):
            raise error


def _completed(folder: Path) -> FinishedRun | None:
    if not holds_answers(folder):
        return None
    try:
        run = read_run(folder)
    except ClientError:
        return None
    end = run.manifest.sessions[-1].ended
    return run if end is not None and end.why in ENDS else None


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
