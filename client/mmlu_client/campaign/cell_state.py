"""cell.json: what a cell is, and how far it has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from mmlu_client.rundir.folder import write_text
from mmlu_client.rundir.json_file import UnreadableError, read_json_file
from mmlu_client.rundir.manifest import json_text

CELL = "cell.json"

State = Literal["waiting", "running", "finished", "failed"]
WAITING: State = "waiting"
RUNNING: State = "running"
FINISHED: State = "finished"
FAILED: State = "failed"
STATES: tuple[State, ...] = (WAITING, RUNNING, FINISHED, FAILED)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try to make a cell's run.

    Attributes:
        started: when, in UTC, ISO 8601.
        where: the machine, or the share of it, that it was tried on.
        ended: when; None while it is on, or where the campaign was killed in it.
        status: mmlu-client's exit status, negative for the signal that killed it; None where it was not
            started, or its end not seen.
        error: what went wrong; None where nothing did.
    """

    started: str
    where: str
    ended: str | None = None
    status: int | None = None
    error: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it is on."""
        if self.ended is None:
            return None
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()


@dataclass(frozen=True, kw_only=True)
class CellState:
    """How far a cell has come.

    Attributes:
        definition: what the cell is (`Cell.definition`).
        state: of its run.
        attempts: in all starts of the campaign.
    """

    definition: dict[str, Any]
    state: State
    attempts: tuple[Attempt, ...] = ()

    @property
    def error(self) -> str | None:
        """Why the last attempt failed; None where it did not."""
        return self.attempts[-1].error if self.attempts else None

    def begun(self, where: str) -> CellState:
        """Return the state with one more attempt, which begins now."""
        attempt = Attempt(started=utc_now(), where=where)
        return replace(self, state=RUNNING, attempts=(*self.attempts, attempt))

    def ended(self, state: State, status: int | None, error: str | None) -> CellState:
        """Return the state after the attempt that was on.

        Args:
            state: that it has led to.
            status: the exit status of mmlu-client.
            error: what went wrong.
        """
        last = replace(self.attempts[-1], ended=utc_now(), status=status, error=error)
        return replace(self, state=state, attempts=(*self.attempts[:-1], last))


def utc_now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def read_cell_state(folder: Path) -> CellState | None:
    """Read the state of the cell in this folder; None where there is none yet.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    remedy = f"remove {folder} to run it again"
    try:
        return read_json_file(folder / CELL, CellState, "a cell's state", remedy=remedy)
    except UnreadableError as error:
        if isinstance(error.error, FileNotFoundError):
            return None
        raise


def write_cell_state(folder: Path, state: CellState) -> None:
    """Write the state in one step.

    Raises:
        NotWrittenError: it cannot be written.
    """
    write_text(folder / CELL, json_text(asdict(state)))
