"""What is seen of a campaign while it is on: on stderr, in Prometheus, and in the files of what came out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.cell_state import FAILED, FINISHED, RUNNING, WAITING, CellState
from mmlu_client.campaign.choices import CampaignChoices
from mmlu_client.campaign.outcome.cell_outcome import Measured, read_measured
from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.outcome_files import OutcomeFiles
from mmlu_client.campaign.watch.display import CellProgress, make_display
from mmlu_client.campaign.watch.metrics import CampaignMetrics
from mmlu_client.errors import ClientError
from mmlu_client.rundir.manifest import read_manifest
from mmlu_client.text import accuracy, number
from mmlu_client.watch.served_metrics import ServedMetrics


class CampaignProgress:
    """Shows how the cells fare, and has what came out written. Any thread may call it.

    Use as a context manager: the metrics are served while it is open.
    """

    def __init__(self, outcome: CampaignOutcome, files: OutcomeFiles, choices: CampaignChoices) -> None:
        """Prepare to show.

        Args:
            outcome: of the campaign, which tells where its files are.
            files: those of what came out.
            choices: of the command line.
        """
        self._folders = {cell.entry.name: outcome.path(cell) for cell in outcome}
        self._labels = {cell.entry.name: cell.label for cell in outcome}
        self._files = files
        self._lost: set[str] = set()
        self._cells: dict[str, CellProgress] = {}
        self._display = make_display()
        self._metrics = CampaignMetrics(outcome.manifest.name)
        self._served = ServedMetrics(
            self._metrics.registry, choices.metrics_host, choices.metrics_port, self.say
        )
        self._lock = threading.Lock()

    def __enter__(self) -> CampaignProgress:
        """Open the metrics' port, where one is asked for.

        Raises:
            InputError: it cannot be opened.
        """
        self._served.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._served.__exit__(kind, error, trace)

    def found(self, cell: Cell, state: CellState) -> None:
        """Take the state in which a start of the campaign finds a cell."""
        with self._lock:
            seen = self._cells[cell.name] = CellProgress(cell.name, self._labels[cell.name], state.state)
            self._display.found(seen)
            self._metrics.found(cell, state)
            if state.state == FINISHED:
                self._metrics.measured(cell, self._measured(cell))

    def changed(self, cell: Cell, state: CellState) -> None:
        """Show that a cell has another state."""
        with self._lock:
            seen = self._cells[cell.name]
            seen.state, seen.lacks_resources = state.state, False
            if state.state == RUNNING:
                seen.where, seen.answered, seen.questions = state.attempts[-1].where, 0, None
            self._metrics.changed(cell, state)
            measured = self._measured(cell) if state.state == FINISHED else None
            self._metrics.measured(cell, measured)
            self._display.changed(seen, self._text(cell, state, measured))

    def waits(self, cell: Cell) -> None:
        """Show that a cell whose turn has come waits for resources; once, however often it is called."""
        with self._lock:
            seen = self._cells[cell.name]
            if not seen.lacks_resources:
                seen.lacks_resources = True
                self._metrics.waits(cell)
                self._display.waits(seen)

    def answered(self, cell: Cell, questions: int) -> None:
        """Take how many questions of a cell that is on are answered; with a reference, twice each."""
        with self._lock:
            seen = self._cells[cell.name]
            if seen.state != RUNNING:
                return
            seen.answered = questions
            if seen.questions is None:
                seen.questions = self._questions(cell)
            self._metrics.advanced(cell, seen.answered, seen.questions)
            self._display.advanced(seen)

    def update(self) -> None:
        """Write how the cells have fared by now; what cannot be written is said, each once."""
        for error in self._files.update():
            if str(error) not in self._lost:
                self._lost.add(str(error))
                self.say(str(error))

    def say(self, text: str) -> None:
        """Print a line for the person."""
        self._display.say(text)

    def close(self) -> None:
        """Show nothing more on stderr."""
        self._display.close()

    def show_last_figures(self, is_stopped: Callable[[], bool]) -> None:
        """Return when Prometheus has read the last figures, or `is_stopped` says so."""
        asyncio.run(self._served.show_last(is_stopped))

    def _text(self, cell: Cell, state: CellState, measured: Measured | None) -> str:
        """Return what is said of a cell's new state; empty: nothing."""
        if state.state == RUNNING:
            return f"{cell.name} begins on {state.attempts[-1].where}"
        if state.state == FINISHED:
            finished = sum(each.state == FINISHED for each in self._cells.values())
            return f"{cell.name} is finished, {finished} of {len(self._cells)}{_figures(state, measured)}"
        if state.state == FAILED:
            return f"{cell.name} has failed: {state.error}"
        if state.state == WAITING and state.error is not None:
            return f"{cell.name} waits for another attempt: {state.error}"
        return ""

    def _measured(self, cell: Cell) -> Measured | None:
        with contextlib.suppress(ClientError):
            return read_measured(self._folders[cell.name])
        return None

    def _questions(self, cell: Cell) -> int | None:
        with contextlib.suppress(ClientError):
            return read_manifest(self._folders[cell.name]).to_answer
        return None


def _figures(state: CellState, measured: Measured | None) -> str:
    """Return `: acc 0.933, 30,033 tokens/s, 3.1 s` of a cell that is finished."""
    seconds = state.attempts[-1].seconds if state.attempts else None
    parts = [] if seconds is None else [f"{seconds:,.1f} s"]
    if measured is not None:
        summary = measured.summary
        parts.insert(0, f"{number(summary.p_infer_whole, ',.0f')} tokens/s")
        if summary.acc is not None:
            parts.insert(0, f"acc {accuracy(summary.acc, measured.served.notice)}")
    return f": {', '.join(parts)}" if parts else ""
