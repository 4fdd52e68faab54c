"""campaign.parquet, .csv and .json, which are written while a campaign is on, and at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from mmlu_client.campaign.outcome import CampaignOutcome
from mmlu_client.campaign.rows import csv_rows, json_rows, parquet
from mmlu_client.errors import NotWrittenError
from mmlu_client.report.outcome import noted
from mmlu_client.rundir.folder import write_bytes

PARQUET, CSV, JSON = "campaign.parquet", "campaign.csv", "campaign.json"


def write_outcome(outcome: CampaignOutcome) -> list[NotWrittenError]:
    """Write as many of the files as possible, and return the errors of the others.

    Args:
        outcome: what came out so far.
    """
    made: dict[str, Callable[[], bytes]] = {
        PARQUET: lambda: parquet(outcome),
        CSV: lambda: csv_rows(outcome).encode(),
        JSON: lambda: json_rows(outcome).encode(),
    }
    return _written(outcome.folder, made)


def _written(folder: Path, made: Mapping[str, Callable[[], bytes]]) -> list[NotWrittenError]:
    lost: list[NotWrittenError] = []
    for name, content in made.items():
        with noted(lost):
            write_bytes(folder / name, content())
    return lost


class OutcomeFiles:
    """The files of a campaign that is on. Any thread may call it.

    They are made by the lane whose cell has ended, before its next one begins: where there is one lane, no
    run is measured then.
    """

    def __init__(self, outcome: CampaignOutcome) -> None:
        self._outcome = outcome
        self._is_stale = False
        self._writing = threading.Lock()

    def update(self) -> list[NotWrittenError]:
        """Write how the cells have fared by now, and return what could not be written.

        Where another thread is writing, it is left to that one.
        """
        lost: list[NotWrittenError] = []
        self._is_stale = True
        while self._is_stale and self._writing.acquire(blocking=False):
            try:
                self._is_stale = False
                lost += self._write()
            finally:
                self._writing.release()
        return lost

    def finish(self) -> list[NotWrittenError]:
        """Write everything, and return what could not be written."""
        with self._writing:
            return self._write()

    def _write(self) -> list[NotWrittenError]:
        self._outcome.read()
        return write_outcome(self._outcome)
