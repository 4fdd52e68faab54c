"""How long the earlier sessions of a resumed run asked."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.span import spans
from mmlu_client.rundir.manifest import Session
from mmlu_client.rundir.record_table import RecordTable


def seconds_asked(sessions: Sequence[Session], records: RecordTable, phase: str) -> float:
    """Return how many seconds earlier sessions asked a phase.

    The time of a session that was killed is counted up to its last reply.

    Args:
        sessions: the earlier ones.
        records: those of the phase.
        phase: its name.
    """
    by_records = spans(records)
    total = 0.0
    for number, session in enumerate(sessions):
        if session.ended is not None:
            total += session.ended.phase_seconds.get(phase, 0.0)
        elif number in by_records:
            total += by_records[number].whole_seconds
    return total
