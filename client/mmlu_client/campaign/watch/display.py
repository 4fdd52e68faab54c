"""The progress of a campaign on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import TaskID
from trt_common.one_line import printable

from mmlu_client.campaign.cell_state import FAILED, FINISHED, RUNNING, State
from mmlu_client.watch.console import (
    can_draw_bars,
    is_time_for_line,
    make_bars,
    open_console,
    print_above_bars,
    print_line,
)

# Servers and clients on this machine are measured: drawing takes their time.
DRAWN_PER_SECOND = 2
WAITS = "waits for resources"


@dataclass
class CellProgress:
    """How far a cell is.

    Attributes:
        name: of the cell.
        label: the coordinates in which the campaign's cells differ.
        state: of its run.
        where: the machine, or the share of it, that it is on.
        lacks_resources: whether its turn has come, and what it needs is not free.
        answered: the questions that are answered; with a reference, twice each.
        questions: how many there are; None where that is not known yet.
    """

    name: str
    label: str
    state: State
    where: str = ""
    lacks_resources: bool = False
    answered: int = 0
    questions: int | None = None


class Display(Protocol):
    """Shows how a campaign's cells fare. One thread at a time calls it."""

    def found(self, cell: CellProgress) -> None:
        """Take a cell as a start of the campaign finds it."""
        ...

    def changed(self, cell: CellProgress, text: str) -> None:
        """Show that a cell has another state, which the text says; empty: nothing is to be said."""
        ...

    def waits(self, cell: CellProgress) -> None:
        """Show that a cell whose turn has come waits for resources."""
        ...

    def advanced(self, cell: CellProgress) -> None:
        """Show that more of a cell's questions are answered, or that there is nothing new."""
        ...

    def say(self, text: str) -> None:
        """Print a line for the person."""
        ...

    def close(self) -> None:
        """Show nothing more."""
        ...


def make_display() -> Display:
    """Return bars for a terminal that can draw them, lines elsewhere."""
    console = open_console()
    return BarDisplay(console) if can_draw_bars(console) else LineDisplay(console)


class LineDisplay:
    """For logs: a line when a cell begins and ends, and of a long one now and then."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to this console.

        Args:
            console: where lines go.
            clock: returns the time in seconds.
        """
        self._console = console
        self._clock = clock
        # When a cell's last line was printed, and how many of its questions were answered then.
        self._last: dict[str, tuple[float, int]] = {}

    def found(self, cell: CellProgress) -> None:
        """Take a cell as it is found: there is nothing to show."""

    def changed(self, cell: CellProgress, text: str) -> None:
        """Print the text."""
        self._last[cell.name] = self._clock(), cell.answered
        if text:
            self.say(text)

    def waits(self, cell: CellProgress) -> None:
        """Print a line that says it."""
        self.say(f"{cell.name} {WAITS}")

    def advanced(self, cell: CellProgress) -> None:
        """Print a line if it is time."""
        at, answered = self._last.setdefault(cell.name, (self._clock(), cell.answered))
        questions = cell.questions
        if questions is None or cell.answered >= questions:
            # The line of its end follows.
            return
        if is_time_for_line(self._clock() - at, cell.answered - answered, questions):
            self._last[cell.name] = self._clock(), cell.answered
            self.say(f"{cell.name}: {cell.answered}/{questions} questions")

    def say(self, text: str) -> None:
        """Print a line for the person."""
        print_line(self._console, text)

    def close(self) -> None:
        """Show nothing more."""


class BarDisplay:
    """For a terminal: a bar for the campaign, and one for each cell that is on; lines go above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, State] = {}
        self._rows: dict[str, TaskID] = {}
        self._bars = make_bars(console, DRAWN_PER_SECOND)
        self._all = self._bars.add_task("cells", total=None, figures="")

    def found(self, cell: CellProgress) -> None:
        """Count the cell."""
        self._states[cell.name] = cell.state
        self._show_all()

    def changed(self, cell: CellProgress, text: str) -> None:
        """Print the text above the bars, and draw a bar for a cell that is on."""
        self._bars.start()
        self._states[cell.name] = cell.state
        if cell.name in self._rows:
            self._bars.remove_task(self._rows.pop(cell.name))
        if cell.state == RUNNING:
            self._add_row(cell, cell.where)
        elif text:
            self.say(text)
        self._show_all()

    def waits(self, cell: CellProgress) -> None:
        """Draw an empty bar that says it."""
        self._bars.start()
        self._add_row(cell, WAITS)

    def advanced(self, cell: CellProgress) -> None:
        """Draw how far the cell is."""
        if cell.name in self._rows:
            self._bars.update(self._rows[cell.name], total=cell.questions, completed=cell.answered)

    def say(self, text: str) -> None:
        """Print a line for the person above the bars."""
        print_above_bars(self._console, text)

    def close(self) -> None:
        """Remove the bars."""
        self._bars.stop()

    def _add_row(self, cell: CellProgress, figures: str) -> None:
        self._rows[cell.name] = self._bars.add_task(
            printable(cell.label), total=cell.questions, completed=cell.answered, figures=printable(figures)
        )

    def _show_all(self) -> None:
        counts = Counter(self._states.values())
        figures = ", ".join(f"{counts[each]} {each}" for each in (FAILED, RUNNING) if counts[each])
        self._bars.update(
            self._all,
            total=len(self._states),
            completed=counts[FINISHED] + counts[FAILED],
            figures=figures,
        )
