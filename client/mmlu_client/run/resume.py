"""What a resumed run takes from its earlier sessions: the flags, and how long it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmlu_client.figures.span import spans
from mmlu_client.rundir.folder import holds_sweep
from mmlu_client.rundir.manifest import Session, read_manifest
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.rundir.sweep_manifest import sweep_flags


def flags_of(folder: Path) -> dict[str, Any]:
    """Return the flags that the run, or the sweep, in this folder was started with.

    Raises:
        InputError: the folder holds neither.
    """
    return sweep_flags(folder) if holds_sweep(folder) else read_manifest(folder).flags


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
