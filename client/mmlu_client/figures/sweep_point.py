"""One load of a sweep, with its run and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from mmlu_client.config.load_plan import LoadPlan
from mmlu_client.figures.summary import Summary
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.text import shortest


@dataclass(frozen=True)
class Point:
    """One load of a sweep and its run."""

    plan: LoadPlan
    run: FinishedRun
    summary: Summary

    @property
    def name(self) -> str:
        """The name of the load, which is also that of its folder."""
        return name_of(self.plan)

    @property
    def load(self) -> float:
        """The requests per second of an open loop; the requests in flight of a closed one."""
        return self.plan.rate if self.plan.mode == "open" else self.plan.concurrency

    def milliseconds(self, percentile: str) -> float | None:
        """Return a percentile ("p50") of the latency in ms."""
        seconds: float | None = getattr(self.summary, f"latency_{percentile}_seconds")
        return None if seconds is None else seconds * 1e3


def name_of(plan: LoadPlan) -> str:
    """Return the name of a load, which is also that of its folder."""
    if plan.mode == "open":
        return f"request-rate-{shortest(plan.rate)}"
    return f"concurrency-{plan.concurrency}"
