"""A run as it lies on disk: manifest, records and device readings, and what follows from them directly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mmlu_client.config.flag_values import slo
from mmlu_client.figures.arithmetic import longest
from mmlu_client.figures.stages import late_seconds
from mmlu_client.rundir.counter_log import CounterReading, counted, read_counter_log
from mmlu_client.rundir.device_log import Reading, joules, read_device_log
from mmlu_client.rundir.folder import COUNTER_LOG, DEVICE_LOG, RECORDS
from mmlu_client.rundir.manifest import Manifest, Outage, ServerEntry, Session, read_manifest
from mmlu_client.rundir.record import INFER
from mmlu_client.rundir.record_table import Column, RecordTable, read_records
from mmlu_client.service.counters import Counters
from mmlu_client.service.model import PeakMeasurements, ServedModel
from mmlu_client.service.stages import Slo
from mmlu_client.watch.self_check import SelfCheck


@dataclass(frozen=True)
class FinishedRun:
    """This is a run as it lies on disk, finished or killed: figures come from what is there.

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

    @property
    def is_over_http(self) -> bool:
        """Whether the servers were asked over HTTP, where none has a reference engine."""
        return self.manifest.url.startswith(("http://", "https://"))

    @property
    def to_answer(self) -> int:
        """How many answers the run was to get: with a reference, two of each question."""
        return self.manifest.to_answer

    @property
    def restrictions(self) -> list[str]:
        """The flags that leave some of the data's questions out."""
        data, requests = self.manifest.data, self.manifest.load.request_count
        named = sum(data.subject_sizes.values()) < data.benchmark_questions
        return [
            *(["--subjects"] if named else []),
            *([f"--limit {data.limit}"] if data.limit is not None else []),
            *([f"--request-count {requests}"] if requests is not None else []),
        ]

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the engine computes in, and the reference where the run has one."""
        engines = (self.model.engine, self.model.reference)
        return tuple(engine.precision for engine in engines if engine is not None)

    @property
    def server_names(self) -> list[str]:
        """The names of the servers, each once."""
        return list(dict.fromkeys(server.name for server in self.manifest.servers))

    @property
    def slos(self) -> tuple[Slo, ...]:
        """The limits of --goodput."""
        return tuple(slo(text) for text in self.manifest.goodput)

    @property
    def load_seconds(self) -> float | None:
        """How long the servers took to load; None where one does not tell.

        Servers load at the same time: the longest counts, with its reference where that was asked too.
        """
        return longest(map(self._load_seconds, self.manifest.servers))

    def _load_seconds(self, server: ServerEntry) -> float | None:
        if server.load_seconds is None:
            return None
        return server.load_seconds + (server.reference_load_seconds if self.manifest.validate else 0.0)

    @property
    def build_seconds(self) -> float | None:
        """How long the servers took to build their engines, the longest; None where one does not tell."""
        return longest(server.build_seconds for server in self.manifest.servers)

    @property
    def peak_flops(self) -> float | None:
        """The peak of all devices together, in FLOP/s; None where that of one is not known.

        Each device counts once, or each part of it that a server has to itself; where one had several peaks,
        the largest. The devices of a server that does not tell of them have one peak together.
        """
        peaks: dict[tuple[str, str | None], float] = {}
        for server in self.manifest.servers:
            if server.peak_flops is None:
                return None
            if not server.devices:
                peaks[server.name, None] = max(server.peak_flops, peaks.get((server.name, None), 0.0))
            for device in server.devices:
                place = device.id or f"{server.name} {device.name}", device.part
                peaks[place] = max(server.peak_flops, peaks.get(place, 0.0))
        return sum(peaks.values())

    @property
    def peak_measurements(self) -> PeakMeasurements | None:
        """What is known of the peaks' measurements; None where one peak is known without.

        Of all servers: the fewest measurements that one made, the least rate of all, and whether one peak is
        contended.
        """
        found = [server.peak_measurements for server in self.manifest.servers]
        measured = [each for each in found if each is not None]
        if not measured or len(measured) < len(found):
            return None
        return PeakMeasurements(
            count=min(each.count for each in measured),
            least_flops=min(each.least_flops for each in measured),
            contended=any(each.contended for each in measured),
        )

    def possible_flops(self, requests: RecordTable) -> Column:
        """Compute the FLOPs that each request's core time allowed, at its server's peak; 0: not known."""
        places = zip(requests["session"].tolist(), requests["server"].tolist(), strict=True)
        peaks = [self._peaks.get(place, self.model.peak_flops) or 0.0 for place in places]
        possible: Column = requests["server_ns.core"] / 1e9 * np.array(peaks, dtype=np.float64)
        return possible

    @cached_property
    def _peaks(self) -> dict[tuple[int, str], float | None]:
        return {(each.session, each.name): each.peak_flops for each in self.manifest.servers}

    @property
    def client_seconds(self) -> float:
        """How long the client ran, in seconds: from each start to its report.

        Where it was killed, to its last reply.
        """
        return sum(self._client_seconds(number, each) for number, each in enumerate(self.manifest.sessions))

    def _client_seconds(self, number: int, session: Session) -> float:
        if session.ended is not None:
            end = session.ended.monotonic_ns
        else:
            mine = self.records["client_ns.received"][self.records["session"] == number]
            end = max([session.process_started_ns, *mine.tolist()])
        return (end - session.process_started_ns) / 1e9

    @property
    def interruptions(self) -> int:
        """How often a server was away, in the sessions that came to their end."""
        return sum(end.interruptions for end in self.manifest.ends)

    @property
    def outage_seconds(self) -> float:
        """How long together a server was away, in the sessions that came to their end."""
        return float(sum(end.outage_seconds for end in self.manifest.ends))

    @property
    def timeouts(self) -> int:
        """How many answers took too long, in the sessions that came to their end."""
        return sum(end.timeouts for end in self.manifest.ends)

    @property
    def refusals(self) -> int:
        """How often a request was refused because a queue was full, in the same sessions."""
        return sum(end.refusals for end in self.manifest.ends)

    @property
    def outages(self) -> list[tuple[int, Outage]]:
        """Each outage with the number of its session; those of a session that was killed are lost."""
        sessions = enumerate(self.manifest.sessions)
        return [
            (number, outage)
            for number, session in sessions
            if session.ended is not None
            for outage in session.ended.outages
        ]

    @property
    def memory_used(self) -> int | None:
        """Bytes, of all servers together: the most that each ever held on each of its devices."""
        peaks: dict[tuple[str, str], int] = {}
        for reading in self.readings:
            device = reading.device
            held = device.memory_used if device.memory_peak is None else device.memory_peak
            if held is not None:
                place = reading.server, device.name
                peaks[place] = max(held, peaks.get(place, 0))
        return sum(peaks.values()) if peaks else None

    @property
    def memory_total(self) -> int | None:
        """Bytes, of all devices together: one that servers share is counted once."""
        totals = {reading.device_key: reading.device.memory_total for reading in self.readings}
        known = [total for total in totals.values() if total is not None]
        return sum(known) if known and len(known) == len(totals) else None

    @property
    def joules(self) -> float | None:
        """The energy that the devices took while the engine was asked; None where it is not known."""
        return joules(self.readings, INFER)

    @property
    def counters(self) -> Counters | None:
        """What the servers counted themselves while the engine was asked; None where that is not known."""
        return counted(self.counter_readings, INFER)

    @property
    def missing_readings(self) -> int:
        """How many readings of devices could not be written, or not be read again."""
        return self.unreadable + sum(end.lost_readings for end in self.manifest.ends)

    @property
    def self_check(self) -> SelfCheck | None:
        """The client's check of itself in the last session; None where it was killed."""
        number = len(self.manifest.sessions) - 1
        ended = self.manifest.sessions[number].ended
        requests = self.records.phase(INFER).requests()
        requests = requests.where(requests["session"] == number)
        if not ended or not len(requests):
            return None
        taken = (requests["client_ns.received"] - requests["client_ns.ready"]).sum() / 1e9
        away = (requests["client_ns.received"] - requests["client_ns.sent"]).mean() / 1e9
        return SelfCheck(
            late_share=float(late_seconds(requests).sum() / taken) if taken else 0.0,
            lag_share=float(ended.lag_mean_seconds / away) if away else 0.0,
            lag_mean=ended.lag_mean_seconds,
            lag_worst=ended.lag_worst_seconds,
            busy_share=ended.busy_share,
            starved_share=ended.starved_share,
        )


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
