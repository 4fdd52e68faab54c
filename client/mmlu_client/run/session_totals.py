"""What a start of the client knows of itself at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from mmlu_client.run.phase import Phase
from mmlu_client.rundir.manifest import Outage, SessionEnd, now
from mmlu_client.watch.self_check import LoopWatch


@dataclass
class SessionTotals:
    """Adds up its phases. watch, starved_ns and load_ns are the last phase's.

    phase_seconds: how long each phase was asked. lost_readings: those of devices that were not written.
    """

    outages: list[Outage] = field(default_factory=list)
    watch: LoopWatch = field(default_factory=LoopWatch)
    starved_ns: int = 0
    load_ns: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    lost_readings: int = 0

    def add(self, phase: Phase) -> None:
        self.phase_seconds[phase.name] = phase.seconds
        self.outages += [Outage(phase=phase.name, **asdict(outage)) for outage in phase.load.outages]
        self.watch = phase.watch
        self.starved_ns = phase.load.starved_ns
        self.load_ns = phase.load.elapsed_ns
        self.lost_readings += phase.lost_readings

    def ended(self, why: str) -> SessionEnd:
        """At this moment."""
        loop = self.watch.as_json()
        return SessionEnd(
            **asdict(now()),
            why=why,
            interruptions=len(self.outages),
            outage_seconds=sum(each.over_ns - each.lost_ns for each in self.outages) / 1e9,
            outages=tuple(self.outages),
            lag_mean_seconds=loop["lag_mean_seconds"],
            lag_worst_seconds=loop["lag_worst_seconds"],
            busy_share=loop["busy_share"],
            starved_share=self.starved_ns / self.load_ns if self.load_ns else 0.0,
            phase_seconds=self.phase_seconds,
            lost_readings=self.lost_readings,
        )
