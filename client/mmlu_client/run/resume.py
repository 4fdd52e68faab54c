"""Going on with a run that was killed: its flags, and how long it was asked."""

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
    """The flags the run, or the sweep, in this folder was started with. Raises InputError."""
    return sweep_flags(folder) if holds_sweep(folder) else read_manifest(folder).flags


def seconds_asked(sessions: Sequence[Session], records: RecordTable, phase: str) -> float:
    """How long earlier starts asked a phase: to its last reply where a start was killed.

    records: those of the phase.
    """
    by_records = spans(records)
    total = 0.0
    for number, session in enumerate(sessions):
        if session.ended is not None:
            total += session.ended.phase_seconds.get(phase, 0.0)
        elif number in by_records:
            total += by_records[number].whole_seconds
    return total
