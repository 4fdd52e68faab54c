"""The totals of one session: its outages, its times and the readings it lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from mmlu_client.run.phase import Phase
from mmlu_client.rundir.manifest import Outage, SessionEnd, now
from mmlu_client.watch.loop_watch import LoopWatch


@dataclass
class SessionTotals:
    """Adds up the phases of a session.

    Attributes:
        outages: each loss of a stream.
        watch: how busy the client's own event loop was in the last phase.
        starved_ns: how long due requests of the last phase waited for their prompts, in nanoseconds.
        load_ns: how long the last phase took, to its last answer, in nanoseconds.
        phase_seconds: how long each phase was asked, by its name.
        lost_readings: how many readings of devices were not written.
        timeouts: how many answers took too long.
        refusals: how often a request was refused because a queue was full.
    """

    outages: list[Outage] = field(default_factory=list)
    watch: LoopWatch = field(default_factory=LoopWatch)
    starved_ns: int = 0
    load_ns: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    lost_readings: int = 0
    timeouts: int = 0
    refusals: int = 0

    def add(self, phase: Phase) -> None:
        """Add a phase that came to its end."""
        self.phase_seconds[phase.name] = phase.seconds
        self.outages += [Outage(phase=phase.name, **asdict(outage)) for outage in phase.load.outages]
        self.watch = phase.watch
        self.starved_ns = phase.load.starved_ns
        self.load_ns = phase.load.elapsed_ns
        self.lost_readings += phase.lost_readings
        self.timeouts += phase.load.timeouts
        self.refusals += phase.load.refusals

    def ended(self, why: str) -> SessionEnd:
        """Return the end of the session, which is this moment.

        Args:
            why: what ended it.
        """
        return SessionEnd(
            **asdict(now()),
            why=why,
            interruptions=len(self.outages),
            outage_seconds=sum(each.over_ns - each.lost_ns for each in self.outages) / 1e9,
            outages=tuple(self.outages),
            **asdict(self.watch.load),
            starved_share=self.starved_ns / self.load_ns if self.load_ns else 0.0,
            phase_seconds=self.phase_seconds,
            lost_readings=self.lost_readings,
            timeouts=self.timeouts,
            refusals=self.refusals,
        )
