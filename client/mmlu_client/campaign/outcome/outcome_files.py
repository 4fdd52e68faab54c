"""campaign.parquet, .csv, .json and .html, which are written while a campaign is on, and at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mmlu_client.campaign.outcome.outcome import CampaignOutcome
from mmlu_client.campaign.outcome.rows import csv_rows, json_rows, parquet
from mmlu_client.errors import NotWrittenError
from mmlu_client.report.outcome import noted
from mmlu_client.rundir.folder import write_bytes

PARQUET, CSV, JSON, PAGE = "campaign.parquet", "campaign.csv", "campaign.json", "campaign.html"
# While the campaign is on, the page with its charts is not drawn more often.
PAGE_SECONDS = 30.0


def write_outcome(outcome: CampaignOutcome, *, with_page: bool = True) -> list[NotWrittenError]:
    """Write as many of the files as possible, and return the errors of the others.

    Args:
        outcome: what came out so far.
        with_page: whether the page is among them.
    """
    made: dict[str, Callable[[], bytes]] = {
        PARQUET: lambda: parquet(outcome),
        CSV: lambda: csv_rows(outcome).encode(),
        JSON: lambda: json_rows(outcome).encode(),
    }
    if with_page:
        made[PAGE] = lambda: _page(outcome)
    return _written(outcome.folder, made)


def _page(outcome: CampaignOutcome) -> bytes:
    # The charts' library takes a while to import, and most cells end without a page.
    from mmlu_client.pages.campaign_page import campaign_page

    return campaign_page(outcome).encode("utf-8", "surrogatepass")


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

    def __init__(self, outcome: CampaignOutcome, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare to write.

        Args:
            outcome: of the campaign.
            clock: returns the time in seconds.
        """
        self._outcome = outcome
        self._clock = clock
        self._page_at: float | None = None
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
                lost += self._write(with_page=self._is_time_for_page())
            finally:
                self._writing.release()
        return lost

    def finish(self) -> list[NotWrittenError]:
        """Write everything, and return what could not be written."""
        with self._writing:
            return self._write(with_page=True)

    def _write(self, *, with_page: bool) -> list[NotWrittenError]:
        self._outcome.read()
        lost = write_outcome(self._outcome, with_page=with_page)
        if with_page:
            self._page_at = self._clock()
        return lost

    def _is_time_for_page(self) -> bool:
        return self._page_at is None or self._clock() - self._page_at >= PAGE_SECONDS
