"""A lane of a campaign: its worker makes one cell's run after the other."""

from __future__ import annotations

from collections.abc import Callable

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.cell_state import FAILED, FINISHED, WAITING
from mmlu_client.campaign.folder import CampaignFolder
from mmlu_client.campaign.ledger import Ledger
from mmlu_client.campaign.place import Place
from mmlu_client.campaign.schedule import Schedule
from mmlu_client.campaign.watch.progress import CampaignProgress
from mmlu_client.campaign.worker import Watch, Worker


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
            self._folder.make_room(cell)
            ending = worker.measure(cell, folder, self._watch(cell), self._is_stopped)
            if not self._ledger.has_begun(cell):
                if self._is_stopped():
                    return
                self._ledger.begin(cell, worker.where)
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

    def _watch(self, cell: Cell) -> Watch:
        return Watch(
            answered=lambda questions: self._progress.answered(cell, questions),
            begins=lambda where: self._ledger.begin(cell, where),
            waits=lambda: self._progress.waits(cell),
        )
