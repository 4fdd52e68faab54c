"""The folder of a run that is going on, and what earlier sessions left in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Item
from mmlu_client.figures.accuracy import accuracy_of
from mmlu_client.run.early_stop import EarlyStop
from mmlu_client.run.resume import seconds_asked
from mmlu_client.rundir.folder import COUNTER_LOG, DEVICE_LOG, RECORDS, check_holds_no_run
from mmlu_client.rundir.manifest import Manifest, Session, read_manifest
from mmlu_client.rundir.open_manifest import RunManifest
from mmlu_client.rundir.record import INFER, VAL
from mmlu_client.rundir.record_table import RecordTable, read_records
from mmlu_client.rundir.whole_lines import reopen_log


class FolderOfRun:
    """The folder of a run, whose records are open for writing.

    Attributes:
        earlier: the records of earlier sessions.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        items: Sequence[Item],
        early_stop: EarlyStop,
        on_open: Callable[[], None],
    ) -> None:
        """Make the folder this run's, now that no other client can write its records.

        Args:
            folder: the run's.
            settings: of the run; with `resume`, what earlier sessions left is gone on with.
            items: all that the run asks.
            early_stop: knows whether earlier answers are enough.
            on_open: called once the folder is this run's, before files of an earlier start are touched.

        Raises:
            InputError: another run is in it by now, or its records cannot be read.
            RunError: a file that an earlier start left cannot be written.
        """
        self._folder = folder
        self._settings = settings
        self._items = items
        self._early_stop = early_stop
        if settings.resume is None:
            # Another client may have had the folder since this one looked; now none can.
            check_holds_no_run(folder)
        on_open()
        for name in (DEVICE_LOG, COUNTER_LOG):
            reopen_log(folder / name, keep=settings.resume is not None)
        self.earlier = read_records(folder / RECORDS)

    def open_manifest(self, manifest: Manifest) -> RunManifest | None:
        """Begin this session's part of the manifest.

        Args:
            manifest: of this session alone.

        Returns:
            The manifest; None where earlier sessions left nothing to ask, so that their figures stay.

        Raises:
            InputError: the run that is to be resumed is another one.
        """
        before = None
        if self._settings.resume is not None:
            before = read_manifest(self._folder)
            before.check_same_run(self._folder, manifest)
            if not self._is_something_left(before.sessions):
                return None
        return RunManifest(self._folder, manifest, before)

    def _is_something_left(self, sessions: Sequence[Session]) -> bool:
        """Whether earlier sessions left anything to ask."""

        def asks(phase: str, items: Sequence[Item]) -> bool:
            mine = self.earlier.phase(phase)
            spent = round(seconds_asked(sessions, mine, phase) * 1e9)
            is_over = self._early_stop.is_met_by(accuracy_of(mine)) or self._settings.load.is_spent(spent)
            return bool(unanswered(items, mine)) and not is_over

        if not self._settings.validate:
            return asks(INFER, self._items)
        return asks(VAL, self._items) or asks(INFER, self.validated())

    def validated(self) -> list[Item]:
        """Return the items that the reference was asked: fewer than all where that ended early."""
        asked = set(read_records(self._folder / RECORDS).phase(VAL).questions())
        return [item for item in self._items if item.key in asked]


def unanswered(items: Sequence[Item], records: RecordTable) -> list[Item]:
    """Return the items that have no record."""
    answered = set(records.questions())
    return [item for item in items if item.key not in answered]
