"""What makes cells' runs: one server at a time, and its cells one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmlu_client.campaign.cell import Cell


@dataclass(frozen=True)
class Ending:
    """How an attempt to make a cell's run ended.

    Attributes:
        status: mmlu-client's exit status, negative for the signal that ended it; None: it was not started.
        error: what went wrong, in one line; None where nothing did.
        is_server_lost: whether the server did not start, so that every cell of it fares alike.
    """

    status: int | None
    error: str | None
    is_server_lost: bool = False


@dataclass(frozen=True)
class Watch:
    """What is told of an attempt while it is on.

    Attributes:
        answered: told how many of the cell's questions are answered, some times a second.
        begins: told on which machine, or share of it, the attempt begins, once it has what it needs there.
        waits: told, now and then, that the resources which it needs are not free yet.
    """

    answered: Callable[[int], None]
    begins: Callable[[str], None] = lambda _: None
    waits: Callable[[], None] = lambda: None


class Worker(Protocol):
    """What makes cells' runs, here or elsewhere."""

    @property
    def where(self) -> str:
        """The machine, or the share of it, as people call it."""
        ...

    def measure(self, cell: Cell, folder: Path, watch: Watch, is_stopped: Callable[[], bool]) -> Ending:
        """Make the run of a cell, or go on with it.

        Args:
            cell: what is run.
            folder: of the run; what an earlier attempt left is in it.
            watch: told how it fares.
            is_stopped: whether it is to end early.

        Returns:
            How it ended; where `watch` was not told that it begins, without having begun.
        """
        ...

    def close(self) -> None:
        """Stop the server that it holds, if it holds one."""
        ...
