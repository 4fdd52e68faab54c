"""How far the cells of a campaign have come, on disk and for those who watch."""

from __future__ import annotations

import threading
from collections import Counter

from mmlu_client.campaign.cell import Cell, ServerSetting
from mmlu_client.campaign.cell_state import FAILED, RUNNING, CellState, State, write_cell_state
from mmlu_client.campaign.file.campaign_file import Campaign
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.watch.progress import CampaignProgress
from mmlu_client.campaign.worker import Ending

# mmlu-client's status for a bad argument: the next attempt would find it again.
REFUSED = 2


class Ledger:
    """Notes how each cell fares. Any thread may call it."""

    def __init__(self, campaign: Campaign, folder: CampaignFolder, progress: CampaignProgress) -> None:
        """Take the states that the folder holds.

        Raises:
            InputError: one cannot be read.
        """
        self._folder = folder
        self._progress = progress
        self._attempts = campaign.attempts
        self._states = {cell.name: folder.state(cell) for cell in campaign.cells}
        self._tries: Counter[str] = Counter()
        self._servers_lost: Counter[str] = Counter()
        self._lock = threading.Lock()
        for cell in campaign.cells:
            progress.found(cell, self._states[cell.name])

    def state(self, cell: Cell) -> CellState:
        """Return how far a cell has come."""
        return self._states[cell.name]

    def begin(self, cell: Cell, where: str) -> None:
        """Note that an attempt begins.

        Raises:
            NotWrittenError: it cannot be written.
        """
        with self._lock:
            self._tries[cell.name] += 1
            self._note(cell, self._states[cell.name].begun(where))

    def has_begun(self, cell: Cell) -> bool:
        """Return whether an attempt is on."""
        return self._states[cell.name].state == RUNNING

    def end(self, cell: Cell, state: State, ending: Ending) -> None:
        """Note that the attempt has ended.

        Raises:
            NotWrittenError: it cannot be written.
        """
        with self._lock:
            self._note(cell, self._states[cell.name].ended(state, ending.status, ending.error))

    def fail_untried(self, cell: Cell, where: str, why: str) -> None:
        """Note that a cell is not tried, because its server does not start.

        Raises:
            NotWrittenError: it cannot be written.
        """
        with self._lock:
            self._note(cell, self._states[cell.name].begun(where).ended(FAILED, None, why))

    def may_try_again(self, cell: Cell, ending: Ending) -> bool:
        """Return whether another attempt may fare better, and is allowed."""
        return ending.status != REFUSED and self._tries[cell.name] < self._attempts

    def is_server_given_up(self, setting: ServerSetting, ending: Ending) -> bool:
        """Return whether a server has not started as often as a cell is tried."""
        with self._lock:
            if not ending.is_server_lost:
                self._servers_lost.pop(setting.name, None)
                return False
            self._servers_lost[setting.name] += 1
            return self._servers_lost[setting.name] >= self._attempts

    def _note(self, cell: Cell, state: CellState) -> None:
        self._states[cell.name] = state
        write_cell_state(self._folder.cell(cell), state)
        self._progress.changed(cell, state)
