"""Where each new record goes: the run's file, early stop, the progress display and the metrics."""

from __future__ import annotations

from collections.abc import Sequence

from mmlu_client.figures.accuracy import accuracy_of
from mmlu_client.run.early_stop import EarlyStop
from mmlu_client.rundir.document_record import AnyRecord
from mmlu_client.rundir.record import INFER, AnsweredRequest
from mmlu_client.rundir.record_file import RecordFile
from mmlu_client.rundir.record_table import RecordTable
from mmlu_client.watch.metrics import Metrics
from mmlu_client.watch.progress import Progress


class Recorder:
    """Gives new records to the file, early stop, the progress display and the metrics.

    Attributes:
        records: how many the run has so far, those of earlier sessions included.
    """

    def __init__(self, file: RecordFile, early_stop: EarlyStop, progress: Progress, metrics: Metrics) -> None:
        self.records = 0
        self._file = file
        self._early_stop = early_stop
        self._progress = progress
        self._metrics = metrics

    @property
    def is_enough(self) -> bool:
        """Whether the records of this phase end it early."""
        return self._early_stop.is_met

    def start(self, earlier: RecordTable) -> None:
        """Begin a phase, of which earlier sessions left these records."""
        self.records += len(earlier)
        self._early_stop.start(accuracy_of(earlier))

    def add_answer(
        self,
        records: Sequence[AnyRecord],
        request: AnsweredRequest | None,
        phase: str,
        session: int,
        seconds: float,
    ) -> None:
        """Take an answer.

        Args:
            records: of the items that it completes; none where others of their prompts have no answer yet.
            request: the request that was answered with scores; None where it was refused.
            phase: VAL or INFER.
            session: the number of this start of the client.
            seconds: how long this session has asked the phase so far.

        Raises:
            RunError: the records cannot be written.
        """
        if records:
            self.add(records)
        if phase == INFER:
            if request is not None:
                self._metrics.add_request(session, request)
            self._metrics.set_whole_seconds(seconds)

    def add(self, records: Sequence[AnyRecord]) -> None:
        """Take records of one phase.

        Args:
            records: at least one.

        Raises:
            RunError: they cannot be written.
        """
        self._file.append(records)
        self.records += len(records)
        self._early_stop.add(records)
        self._progress.update(records)
        if records[0].phase == INFER:
            self._metrics.add(records)
