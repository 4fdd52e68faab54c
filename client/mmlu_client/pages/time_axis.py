"""The time axis of a run's charts, on which the starts of the client follow each other without a gap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmlu_client.figures.span import spans
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable


class TimeAxis:
    """The seconds in which a run asked; 0 is where it began to ask the engine, after the reference.

    Each start of the client has its own clock, because a machine that was started again has another.
    """

    def __init__(self, records: RecordTable) -> None:
        asked = {phase: spans(records.phase(phase)) for phase in (VAL, INFER)}
        self._spans = {(phase, session): span for phase in asked for session, span in asked[phase].items()}
        self._starts: dict[tuple[str, int], float] = {}
        start = -sum(span.whole_seconds for span in asked[VAL].values())
        for key, span in self._spans.items():
            self._starts[key] = start
            start += span.whole_seconds

    @property
    def restarts(self) -> list[float]:
        """Where each later start of the client began to ask, in seconds."""
        keys = list(self._starts)
        return [self._starts[key] for before, key in pairwise(keys) if key[1] != before[1]]

    def has(self, phase: str, session: int) -> bool:
        """Return whether anything was answered in this phase and start of the client."""
        return (phase, session) in self._spans

    def seconds(self, phase: str, session: int, monotonic_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the place of these times, in monotonic ns, on the axis.

        Times before a start's first request or after its last reply are moved there.
        """
        span = self._spans[phase, session]
        inside = np.clip(monotonic_ns, span.due, span.last_reply)
        return self._starts[phase, session] + (inside - span.due) / 1e9
