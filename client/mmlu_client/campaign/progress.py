"""What is seen of a campaign while it is on."""

from __future__ import annotations

import sys
import threading

from trt_common.one_line import printable

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.cell_state import FAILED, FINISHED, RUNNING, WAITING, CellState
from mmlu_client.campaign.outcome_files import OutcomeFiles


class CampaignProgress:
    """Prints a line for each cell that begins and ends, and writes what came out. Any thread may call it."""

    def __init__(self, files: OutcomeFiles) -> None:
        """Begin to show.

        Args:
            files: those of what came out.
        """
        self._files = files
        self._lost: set[str] = set()
        self._states: dict[str, CellState] = {}
        self._lock = threading.Lock()

    def found(self, cell: Cell, state: CellState) -> None:
        """Take the state in which a start of the campaign finds a cell."""
        self._states[cell.name] = state

    def changed(self, cell: Cell, state: CellState) -> None:
        """Show that a cell has another state."""
        with self._lock:
            self._states[cell.name] = state
            if state.state == RUNNING:
                self.say(f"{cell.name} begins on {state.attempts[-1].where}")
            elif state.state == FINISHED:
                self.say(f"{cell.name} is finished, {self._done()}")
            elif state.state == FAILED:
                self.say(f"{cell.name} has failed: {state.error}")
            elif state.state == WAITING and state.error is not None:
                self.say(f"{cell.name} waits for another attempt: {state.error}")

    def answered(self, cell: Cell, questions: int) -> None:
        """Take how many questions of a cell that is on are answered."""

    def update(self) -> None:
        """Write how the cells have fared by now; what cannot be written is said, each once."""
        for error in self._files.update():
            if str(error) not in self._lost:
                self._lost.add(str(error))
                self.say(str(error))

    def say(self, text: str) -> None:
        """Print a line for the person."""
        print(printable(f"mmlu-client: {text}"), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Show nothing more."""

    def _done(self) -> str:
        finished = sum(state.state == FINISHED for state in self._states.values())
        return f"{finished} of {len(self._states)}"
