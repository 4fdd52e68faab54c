"""Whether accuracy is known well enough to ask no more."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.accuracy import Accuracy
from mmlu_client.rundir.record import Record

# Below so many answers an interval's width means little.
LEAST_ANSWERS = 30


class EarlyStop:
    """--early-stop, a phase at a time. is_met: once it was, it stays so, whatever is still answered."""

    def __init__(self, width: float | None) -> None:
        """width: that the 95 % interval of accuracy has to stay below; None: all is asked."""
        self._width = width
        self._accuracy = Accuracy(0, 0)
        self.is_met = False

    def start(self, earlier: Accuracy) -> None:
        """A phase of which so much was answered before."""
        self._accuracy = earlier
        self.is_met = self.is_met_by(earlier)

    def add(self, records: Sequence[Record]) -> None:
        self._accuracy = Accuracy(
            self._accuracy.correct + sum(record.correct for record in records),
            self._accuracy.answered + sum(record.score is not None for record in records),
        )
        self.is_met = self.is_met or self.is_met_by(self._accuracy)

    def is_met_by(self, accuracy: Accuracy) -> bool:
        if self._width is None or accuracy.answered < LEAST_ANSWERS:
            return False
        interval = accuracy.interval
        return interval is not None and interval.width < self._width
