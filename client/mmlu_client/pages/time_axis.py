"""Where in a run something was, for its charts: the starts of the client follow each other without a gap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mmlu_client.figures.span import spans
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable


class TimeAxis:
    """Seconds in which a run asked; 0 where it began to ask the engine, after the reference.

    Each start of the client is told by its own clock: a machine that was started again has another.
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
        """Where another start of the client began to ask."""
        keys = list(self._starts)
        return [self._starts[key] for before, key in pairwise(keys) if key[1] != before[1]]

    def has(self, phase: str, session: int) -> bool:
        """Whether anything was answered then."""
        return (phase, session) in self._spans

    def seconds(self, phase: str, session: int, monotonic_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """What came right before a start's first request or after its last reply is put where that was."""
        span = self._spans[phase, session]
        inside = np.clip(monotonic_ns, span.due, span.last_reply)
        return self._starts[phase, session] + (inside - span.due) / 1e9
