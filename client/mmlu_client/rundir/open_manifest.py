"""The manifest of a run that is going on, which is written whenever it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mmlu_client.rundir.manifest import (
    DeviceEntry,
    Manifest,
    ServerEntry,
    Session,
    SessionEnd,
    now,
    write_manifest,
)
from mmlu_client.service.model import PeakMeasurements
from mmlu_client.service.remote_server import RemoteServer


def new_session(command_line: Sequence[str], process_started: float) -> Session:
    """Describe this start of the client.

    Args:
        command_line: its arguments.
        process_started: when its process began, in seconds of the monotonic clock.
    """
    return Session(
        started=now(),
        process_started_ns=round(process_started * 1e9),
        command_line=tuple(command_line),
        ended=None,
    )


class RunManifest:
    """The manifest of a run that is going on, which is written whenever it changes.

    Every change raises RunError where it cannot be written.

    Attributes:
        manifest: as it is now; its last session is this start of the client.
    """

    def __init__(self, folder: Path, manifest: Manifest, before: Manifest | None) -> None:
        """Take a new manifest, which goes on with an earlier one where there is one.

        Args:
            folder: the run's folder.
            manifest: a new manifest.
            before: the manifest of the run that is gone on with.
        """
        self._folder = folder
        self.manifest = manifest
        if before is not None:
            self.manifest = replace(
                manifest,
                started=before.started,
                command_line=before.command_line,
                sessions=(*before.sessions, *manifest.sessions),
                servers=before.servers,
            )

    @property
    def session(self) -> int:
        """The number of this start."""
        return len(self.manifest.sessions) - 1

    @property
    def earlier_sessions(self) -> Sequence[Session]:
        """The starts before this one."""
        return self.manifest.sessions[:-1]

    def add_servers(self, servers: Sequence[RemoteServer]) -> None:
        """Add servers of this start; one that is there already came back."""
        entries = [_server_entry(server, self.session) for server in servers]
        self._write(replace(self.manifest, servers=_all_servers(self.manifest.servers, entries)))

    def end(self, end: SessionEnd) -> None:
        """Note how this start ended."""
        last = replace(self.manifest.sessions[-1], ended=end)
        self._write(replace(self.manifest, sessions=(*self.earlier_sessions, last)))

    def end_now(self) -> None:
        """Put the end off to this moment."""
        end = self.manifest.sessions[-1].ended
        if end is not None:
            self.end(replace(end, **asdict(now())))

    def _write(self, manifest: Manifest) -> None:
        self.manifest = manifest
        write_manifest(self._folder, manifest)


def _server_entry(server: RemoteServer, session: int) -> ServerEntry:
    model = server.model
    return ServerEntry(
        name=server.name,
        session=session,
        device=model.device.name,
        devices=tuple(DeviceEntry(name=each.name, id=each.id, part=each.part) for each in model.devices),
        peak_flops=model.peak_flops,
        peak_measurements=model.peak_measurements,
        load_seconds=model.engine.load_seconds,
        build_seconds=model.engine.build_seconds,
        reference_load_seconds=(model.reference.load_seconds or 0.0) if model.reference else 0.0,
    )


def _all_servers(earlier: Sequence[ServerEntry], now: Sequence[ServerEntry]) -> tuple[ServerEntry, ...]:
    """List the servers of every start of the client, each once a start.

    One that measured its peak again, or was itself started anew within one, keeps the larger of its peaks,
    and the longest of its times: which of its answers came before is not told, and a share of less than was
    possible would flatter.
    """
    entries = {(entry.session, entry.name): entry for entry in earlier}
    for entry in now:
        place = entry.session, entry.name
        before = entries.get(place, entry)
        entries[place] = replace(
            entry,
            peak_flops=_larger(before.peak_flops, entry.peak_flops),
            peak_measurements=_joined(before.peak_measurements, entry.peak_measurements),
            load_seconds=_larger(before.load_seconds, entry.load_seconds),
            build_seconds=_larger(before.build_seconds, entry.build_seconds),
            reference_load_seconds=max(before.reference_load_seconds, entry.reference_load_seconds),
        )
    return tuple(entries.values())


def _larger(before: float | None, now: float | None) -> float | None:
    return max((each for each in (before, now) if each is not None), default=None)


def _joined(before: PeakMeasurements | None, now: PeakMeasurements | None) -> PeakMeasurements | None:
    """Join what a server said of its peak at two times.

    A server counts on from its own start: if it is the same, those of before are among those of now.
    """
    if before is None or now is None:
        return now
    return PeakMeasurements(
        count=max(before.count, now.count),
        least_flops=min(before.least_flops, now.least_flops),
        contended=before.contended and now.contended,
    )
