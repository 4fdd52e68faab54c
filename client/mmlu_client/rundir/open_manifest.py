"""The manifest of a run that is being made, and what a start of the client knows of itself at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmlu_client.load.lane import Server
from mmlu_client.run.phase import Phase
from mmlu_client.rundir.folder import write_manifest
from mmlu_client.rundir.manifest import all_servers, now, server_entry
from mmlu_client.watch.self_check import LoopWatch


@dataclass
class SessionEnd:
    """What a start of the client knows of itself at its end. watch and starving are the last phase's.

    phase_seconds: how long each phase was asked. lost_readings: those of devices that were not written.
    """

    outages: list[dict[str, Any]] = field(default_factory=list)
    watch: LoopWatch = field(default_factory=LoopWatch)
    starved_ns: int = 0
    load_ns: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    lost_readings: int = 0

    def add(self, phase: Phase) -> None:
        self.phase_seconds[phase.name] = phase.seconds
        self.outages += [{"phase": phase.name, **asdict(outage)} for outage in phase.load.outages]
        self.watch = phase.watch
        self.starved_ns = phase.load.starved_ns
        self.load_ns = phase.load.elapsed_ns
        self.lost_readings += phase.lost_readings

    def as_json(self, why: str) -> dict[str, Any]:
        return {
            **now(),
            "why": why,
            "interruptions": len(self.outages),
            "outage_seconds": sum(each["over_ns"] - each["lost_ns"] for each in self.outages) / 1e9,
            "outages": self.outages,
            **self.watch.as_json(),
            "starved_share": self.starved_ns / self.load_ns if self.load_ns else 0.0,
            "phase_seconds": self.phase_seconds,
            "lost_readings": self.lost_readings,
        }


class RunManifest:
    """Written into the run's folder whenever it changes; every change raises RunError where it cannot be.

    Its last session is this start of the client.
    """

    def __init__(
        self,
        folder: Path,
        made_of: Mapping[str, Any],
        session: dict[str, Any],
        before: Mapping[str, Any] | None,
    ) -> None:
        """made_of: a manifest without sessions and servers. before: that of the run that is gone on with."""
        sessions = [*(before["sessions"] if before else []), session]
        self._folder = folder
        self._content = {
            "started": sessions[0]["started"],
            "command_line": sessions[0]["command_line"],
            "sessions": sessions,
            **made_of,
            "servers": before["servers"] if before else [],
        }

    @property
    def content(self) -> dict[str, Any]:
        """As it would be read again."""
        content: dict[str, Any] = json.loads(json.dumps(self._content))
        return content

    @property
    def session(self) -> int:
        """The number of this start."""
        return len(self._content["sessions"]) - 1

    @property
    def earlier_sessions(self) -> list[dict[str, Any]]:
        return list(self._content["sessions"][:-1])

    @property
    def servers(self) -> list[dict[str, Any]]:
        """Of every start."""
        return list(self._content["servers"])

    def add_servers(self, servers: Sequence[Server]) -> None:
        """Of this start; one that is there already came back."""
        entries = [server_entry(server, self.session) for server in servers]
        self._content["servers"] = all_servers(self.servers, entries)
        self._write()

    def end(self, end: SessionEnd, why: str) -> None:
        self._content["sessions"][-1]["ended"] = end.as_json(why)
        self._write()

    def end_now(self) -> None:
        """Put the end off to this moment."""
        self._content["sessions"][-1]["ended"].update(now())
        self._write()

    def _write(self) -> None:
        write_manifest(self._folder, self._content)
