"""A lane of a campaign: its worker makes one cell's run after the other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from mmlu_client.campaign.campaign_file import Campaign
from mmlu_client.campaign.cell import Cell, ServerSetting
from mmlu_client.campaign.cell_state import FAILED, FINISHED, WAITING, CellState, State, write_cell_state
from mmlu_client.campaign.folder import CampaignFolder, is_complete
from mmlu_client.campaign.place import Place
from mmlu_client.campaign.progress import CampaignProgress
from mmlu_client.campaign.schedule import Schedule
from mmlu_client.campaign.worker import Ending, Worker

# mmlu-client's status for a bad argument: the next attempt would find it again.
REFUSED = 2


class Ledger:
    """How far the cells of a campaign have come, on disk and for those who watch. Any thread may call it."""

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


class Lane:
    """Runs in a thread of its own until no cell is left.

    Attributes:
        trouble: what ended it early; None where nothing did.
    """

    def __init__(
        self,
        number: int,
        place: Place,
        folder: CampaignFolder,
        schedule: Schedule,
        ledger: Ledger,
        progress: CampaignProgress,
        is_stopped: Callable[[], bool],
    ) -> None:
        """Prepare the lane.

        Args:
            number: from 0.
            place: where its worker is.
            folder: of the campaign.
            schedule: gives it its cells.
            ledger: notes how they fare.
            progress: shows it.
            is_stopped: whether it is to end early.
        """
        self.trouble: BaseException | None = None
        self._number = number
        self._place = place
        self._folder = folder
        self._schedule = schedule
        self._ledger = ledger
        self._progress = progress
        self._is_stopped = is_stopped

    def run(self) -> None:
        """Make the runs of cells until none is left, or an error or a stop ends it."""
        try:
            worker = self._place.worker(self._number, self._folder)
            try:
                while (cell := self._schedule.next(self._number, self._is_stopped)) is not None:
                    self._attempt(worker, cell)
                    self._progress.update()
            finally:
                worker.close()
        except BaseException as error:
            self.trouble = error

    def _attempt(self, worker: Worker, cell: Cell) -> None:
        folder, is_back = self._folder.cell(cell), False
        try:
            if is_complete(folder):
                # Something was wrong with what it found: it is made anew.
                self._folder.set_aside(cell)
            self._ledger.begin(cell, worker.where)
            ending = worker.measure(
                cell, folder, lambda answered: self._progress.answered(cell, answered), self._is_stopped
            )
            if ending.error is None:
                self._ledger.end(cell, FINISHED, ending)
            elif self._is_stopped():
                self._ledger.end(cell, WAITING, ending)
            elif self._ledger.is_server_given_up(cell.setting, ending):
                self._ledger.end(cell, FAILED, ending)
                for other in self._schedule.give_up(cell.setting):
                    self._ledger.fail_untried(other, worker.where, str(ending.error))
            elif self._ledger.may_try_again(cell, ending):
                self._ledger.end(cell, WAITING, ending)
                self._schedule.again(cell)
                is_back = True
            else:
                self._ledger.end(cell, FAILED, ending)
        finally:
            if not is_back:
                self._schedule.done()
