"""Whether a phase ends because its accuracy is known well enough."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.accuracy import Accuracy
from mmlu_client.rundir.document_record import AnyRecord

# With fewer answers the width of an interval means little.
LEAST_ANSWERS = 30


class EarlyStop:
    """Follows the accuracy of a phase until its interval is as narrow as --early-stop asks.

    Attributes:
        is_met: whether it was once; it stays so, whatever is still answered.
    """

    def __init__(self, width: float | None) -> None:
        """Stop when the 95 % interval of accuracy is narrower than `width`; None: never."""
        self._width = width
        self._accuracy = Accuracy(0, 0)
        self.is_met = False

    def start(self, earlier: Accuracy) -> None:
        """Begin a phase, of which earlier sessions have this accuracy."""
        self._accuracy = earlier
        self.is_met = self.is_met_by(earlier)

    def add(self, records: Sequence[AnyRecord]) -> None:
        """Count new records of the phase."""
        self._accuracy = Accuracy(
            self._accuracy.correct + sum(bool(record.correct) for record in records),
            self._accuracy.answered + sum(record.is_scored for record in records),
        )
        self.is_met = self.is_met or self.is_met_by(self._accuracy)

    def is_met_by(self, accuracy: Accuracy) -> bool:
        """Whether this accuracy's interval is narrow enough."""
        if self._width is None or accuracy.answered < LEAST_ANSWERS:
            return False
        interval = accuracy.interval
        return interval is not None and interval.width < self._width
