"""The load that a run puts on the servers: its options, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from trt_common.command_line import values
from trt_common.command_line.option import option

from mmlu_client.config import flag_values
from mmlu_client.load.pacing import ArrivalPattern, ClosedLoop, Offline, OpenLoop, Pacing
from mmlu_client.text import shortest

Mode = Literal["closed", "open", "offline"]

LOAD = "load"
CONCURRENCY = 4
ARRIVAL_PATTERN: ArrivalPattern = "poisson"


def _loads(given: Sequence[Any] | None) -> tuple[str, tuple[float, ...]] | None:
    return None if given is None else (given[0], tuple(given[1]))


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """The load that a run puts on the servers.

    With `sweep` several runs are made, one after the other, and each is a point of it.
    """

    concurrency: int = option(
        LOAD,
        "closed loop: requests in flight, as many as the servers' windows hold at most "
        f"(default: {CONCURRENCY}, or what they hold)",
        exclusive=True,
        type=flag_values.million,
        metavar="N",
        read=lambda given: given or CONCURRENCY,
    )
    rate: float = option(
        LOAD,
        "open loop: requests a second, answered or not",
        flag="--request-rate",
        exclusive=True,
        type=flag_values.rate,
        metavar="R",
        read=lambda given: given or 0.0,
    )
    offline: bool = option(
        LOAD,
        "everything is due at once; the servers' windows bound it",
        exclusive=True,
        action="store_true",
    )
    sweep: tuple[str, tuple[float, ...]] | None = option(
        LOAD,
        "one run for each: concurrency=1,2,4 or request-rate=5,10; a folder for each in --output",
        exclusive=True,
        type=flag_values.sweep,
        metavar="NAME=A,B",
        read=_loads,
    )
    pattern: ArrivalPattern = option(
        LOAD,
        f"how requests of an open loop come (default: {ARRIVAL_PATTERN})",
        flag="--arrival-pattern",
        choices=("poisson", "constant"),
        read=lambda given: given or ARRIVAL_PATTERN,
    )
    warmup_requests: int = option(
        LOAD,
        "requests asked before and thrown away",
        flag="--warmup-request-count",
        type=values.natural,
        default=0,
        metavar="N",
    )
    duration: float | None = option(
        LOAD,
        "ask nothing new after so long, of all starts of a resumed run together; it ends sooner when every "
        "question is asked",
        flag="--benchmark-duration",
        type=values.positive_seconds,
        metavar="SECONDS",
    )
    request_count: int | None = option(
        LOAD,
        "requests at the most, or with --task so many times bs documents; all by default",
        type=values.count,
        metavar="N",
    )

    @property
    def mode(self) -> Mode:
        """What makes a request due: an answer (closed), the clock (open), or nothing (offline)."""
        return "open" if self.rate else "offline" if self.offline else "closed"

    @property
    def points(self) -> tuple[LoadPlan, ...]:
        """The load of each run of the sweep, of which this may be one; empty where there is none."""
        if self.sweep is None:
            return ()
        name, loads = self.sweep
        if name == "concurrency":
            return tuple(replace(self, concurrency=int(load)) for load in loads)
        return tuple(replace(self, rate=load) for load in loads)

    def pacing(self, seed: int) -> Pacing:
        """Return the pacing, which says when each request is due.

        Args:
            seed: of the random arrivals of an open loop.
        """
        if self.mode == "open":
            return OpenLoop(self.rate, self.pattern, seed)
        if self.mode == "offline":
            return Offline()
        return ClosedLoop(self.concurrency)

    def is_spent(self, nanoseconds: int) -> bool:
        """Return whether so much time has passed that nothing new is asked."""
        return self.duration is not None and nanoseconds >= self.duration * 1e9

    def __str__(self) -> str:
        """Return the load in words, as tables show it."""
        if self.mode == "open":
            return f"open loop, {shortest(self.rate)} requests/s, {self.pattern} arrivals"
        if self.mode == "offline":
            return "offline, everything at once"
        return f"closed loop, {self.concurrency} in flight"
