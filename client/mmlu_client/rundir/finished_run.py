"""A run as it lies on disk: its manifest, its records, and what its servers and their devices told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmlu_client.rundir.counter_log import CounterReading, read_counter_log
from mmlu_client.rundir.device_log import Reading, read_device_log
from mmlu_client.rundir.folder import COUNTER_LOG, DEVICE_LOG, RECORDS
from mmlu_client.rundir.manifest import Manifest, read_manifest
from mmlu_client.rundir.record_table import RecordTable, read_records
from mmlu_client.service.model import ServedModel


@dataclass(frozen=True)
class FinishedRun:
    """A run as it lies on disk, finished or killed: figures come from what is there.

    Attributes:
        folder: the run's folder.
        manifest: what it was made of.
        records: the answers, a row a question and phase.
        readings: what the servers said of their devices.
        unreadable: how many lines that should be readings are none.
        counter_readings: what the servers' own metrics counted, where they were asked for.
    """

    folder: Path
    manifest: Manifest
    records: RecordTable
    readings: list[Reading]
    unreadable: int
    counter_readings: Sequence[CounterReading] = ()

    @cached_property
    def model(self) -> ServedModel:
        """The model, as the first server described it."""
        return self.manifest.served_model


def read_run(folder: Path) -> FinishedRun:
    """Read the run in this folder.

    Raises:
        InputError: the folder holds no run, or a file of it cannot be read.
    """
    manifest = read_manifest(folder)
    readings, unreadable = read_device_log(folder / DEVICE_LOG)
    return FinishedRun(
        folder,
        manifest,
        read_records(folder / RECORDS),
        readings,
        unreadable,
        read_counter_log(folder / COUNTER_LOG),
    )
