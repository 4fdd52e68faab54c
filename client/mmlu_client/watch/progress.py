"""The progress of a run on stderr: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from trt_common.one_line import printable

from mmlu_client.data.item import Item, subject_counts
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.record import VAL
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.text import accuracy
from mmlu_client.watch.console import (
    can_draw_bars,
    is_time_for_line,
    make_bars,
    open_console,
    print_above_bars,
    print_line,
)

SHOW_SECONDS = 0.1


class Tally:
    """The counts of a phase so far.

    Attributes:
        is_reference: Whether the reference is asked.
        questions: The number of all questions.
        subjects: The number of questions of each subject.
        done: The recorded questions of each subject.
        correct: The correct answers of each subject.
        answered: Those of each subject of which it is known whether they are right.
        tokens: The logical tokens of this start of the client.
        subject: The subject that was asked last.
    """

    def __init__(self, questions: Sequence[Item], notice: str, phase: str) -> None:
        """Begin to count.

        Args:
            questions: All questions that will be asked.
            notice: The model's notice.
            phase: The phase of the run.
        """
        self.is_reference = phase == VAL
        self.questions = len(questions)
        self.subjects = subject_counts(questions)
        self.done: Counter[str] = Counter()
        self.correct: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.tokens = 0
        self.subject = questions[0].subject if questions else ""
        self._notice = notice
        self._started = time.monotonic()

    def add(self, record: AnyRecord) -> None:
        """Count a record."""
        subject = record.subject
        self.subject = subject
        self.done[subject] += 1
        if record.is_scored:
            self.answered[subject] += record.correct is not None
            self.correct[subject] += bool(record.correct)
            self.tokens += record.tokens.logical or 0

    def add_earlier(self, records: RecordTable) -> None:
        """Count the records of earlier starts of the client."""
        graded, right = records.is_graded, records.correct
        self.done.update(records["subject"].tolist())
        self.answered.update(records["subject"][graded].tolist())
        self.correct.update(records["subject"][right].tolist())

    def is_finished(self, subject: str) -> bool:
        """Return whether every question of a subject is recorded."""
        return self.done[subject] == self.subjects[subject]

    @property
    def total_done(self) -> int:
        """The number of recorded questions."""
        return self.done.total()

    def subject_accuracy(self, subject: str) -> str:
        """Return the accuracy on a subject as text."""
        return self._accuracy(self.correct[subject], self.answered[subject])

    def total_accuracy(self) -> str:
        """Return the accuracy on all subjects as text."""
        return self._accuracy(self.correct.total(), self.answered.total())

    def throughput(self) -> str:
        """Return the tokens per second since the start as text."""
        return f"{self.tokens / max(time.monotonic() - self._started, 1e-9):,.0f} tokens/s"

    def _accuracy(self, correct: int, answered: int) -> str:
        return accuracy(correct / answered if answered else None, self._notice)


class Progress(Protocol):
    """Shows the progress of a run."""

    def start(self, tally: Tally) -> None:
        """Show the progress of a phase from now on."""
        ...

    def update(self, records: Sequence[AnyRecord]) -> None:
        """Show new records."""
        ...

    def say(self, text: str) -> None:
        """Print a line for the user."""
        ...

    def stop(self) -> None:
        """End the phase."""
        ...


def make_progress(*, is_whole: bool) -> Progress:
    """Return bars for a terminal that can draw them, lines elsewhere.

    Args:
        is_whole: Whether there is also a line for each finished subject.
    """
    console = open_console()
    return BarProgress(console) if can_draw_bars(console) else LineProgress(console, is_whole=is_whole)


class LineProgress:
    """Progress for logs: a line now and then, and one when all questions are recorded."""

    def __init__(
        self, console: Console, *, is_whole: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to this console.

        Args:
            console: Where lines go.
            is_whole: Whether there is also a line for each finished subject.
            clock: Returns the time in seconds.
        """
        self._console = console
        self._is_whole = is_whole
        self._clock = clock
        self._tally: Tally | None = None
        self._line_at = 0.0
        self._line_done = 0

    def start(self, tally: Tally) -> None:
        """Count from now on."""
        self._tally = tally
        self._line_at, self._line_done = self._clock(), tally.total_done

    def update(self, records: Sequence[AnyRecord]) -> None:
        """Count the records, and print a line if it is time."""
        tally = self._tally
        if tally is None:
            return
        for record in records:
            tally.add(record)
            subject = record.subject
            if self._is_whole and tally.is_finished(subject):
                self._line(tally, f"{subject}: acc {tally.subject_accuracy(subject)}; ")
        if self._is_time(tally):
            self._line(tally, "")

    def _is_time(self, tally: Tally) -> bool:
        waited, done = self._clock() - self._line_at, tally.total_done - self._line_done
        is_last = done > 0 and tally.total_done == tally.questions
        return is_last or is_time_for_line(waited, done, tally.questions)

    def say(self, text: str) -> None:
        """Print a line for the user."""
        print_line(self._console, text)

    def stop(self) -> None:
        """Stop counting."""
        self._tally = None

    def _line(self, tally: Tally, start: str) -> None:
        self._line_at, self._line_done = self._clock(), tally.total_done
        whose = "reference: " if tally.is_reference else ""
        self.say(
            f"{whose}{start}{tally.total_done}/{tally.questions} questions, acc {tally.total_accuracy()}, "
            f"{tally.throughput()}"
        )


class BarProgress:
    """Progress for a terminal: a bar for the run, and one for the subject."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally: Tally | None = None
        self._next_show = 0.0
        self._bars = make_bars(console, 1 / SHOW_SECONDS)
        self._total = self._bars.add_task("total", total=None, figures="")
        self._subject = self._bars.add_task("subject", total=None, figures="")

    def start(self, tally: Tally) -> None:
        """Show the bars."""
        self._tally = tally
        self._show(tally)
        self._bars.start()

    def update(self, records: Sequence[AnyRecord]) -> None:
        """Count the records, and draw the bars a few times a second."""
        if self._tally is None:
            return
        for record in records:
            self._tally.add(record)
        now = time.monotonic()
        if now >= self._next_show:
            self._next_show = now + SHOW_SECONDS
            self._show(self._tally)

    def say(self, text: str) -> None:
        """Print a line for the user above the bars."""
        print_above_bars(self._console, text)

    def stop(self) -> None:
        """Remove the bars."""
        if self._tally is not None:
            self._show(self._tally)
            self._bars.stop()
            self._tally = None

    def _show(self, tally: Tally) -> None:
        subject = tally.subject
        figures = f"acc {tally.total_accuracy()}  {tally.throughput()}"
        self._bars.update(
            self._total,
            description="reference" if tally.is_reference else "total",
            total=tally.questions,
            completed=tally.total_done,
            figures=figures,
        )
        self._bars.update(
            self._subject,
            total=tally.subjects[subject],
            completed=tally.done[subject],
            figures=f"{printable(subject)} acc {tally.subject_accuracy(subject)}",
        )
