"""The client's check of itself: whether it limited the run that it measured."""

from __future__ import annotations

from dataclasses import dataclass

from mmlu_client.figures.stages import late_seconds
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER

# Above these shares the client was measured as well as the server: if a tenth of a request's time is the
# client's, so is a tenth of its latency; and a loop that is busy for nine tenths of a run has no reserve.
LATE_SHARE = 0.10
LAG_SHARE = 0.10
BUSY_SHARE = 0.90


@dataclass(frozen=True)
class SelfCheck:
    """What the client measured of itself during a run.

    Attributes:
        late_share: The share of the requests' time, from ready to reply, in which they waited for the client
            to send them.
        lag_share: The event loop's mean lateness, relative to a request's mean time from sent to reply.
        lag_mean: The event loop's mean lateness in seconds.
        lag_worst: The event loop's greatest lateness in seconds.
        busy_share: The share of the run in which the loop's thread computed.
        starved_share: The share of the run in which requests that were due waited for their prompts;
            late_share includes it.
    """

    late_share: float
    lag_share: float
    lag_mean: float
    lag_worst: float
    busy_share: float
    starved_share: float

    @property
    def is_bottleneck(self) -> bool:
        """Whether any share is above its limit."""
        return bool(self._beyond())

    def statement(self) -> str:
        """Return a sentence that says whether the client kept up, with the figures."""
        measured = (
            f"requests stood ready and unsent for {self.late_share:.1%} of their time, the event loop was "
            f"{self.lag_mean * 1e3:.1f} ms late on average, {self.lag_share:.1%} of a request's time "
            f"(at worst {self.lag_worst * 1e3:.0f} ms), and busy for {self.busy_share:.0%} of the run; "
            f"prompts were waited for {self.starved_share:.1%} of it"
        )
        if beyond := self._beyond():
            return (
                f"THE CLIENT WAS A BOTTLENECK ({', '.join(beyond)}): part of what was measured is the "
                f"client, or what else kept this machine busy; {measured}"
            )
        return f"the client kept up: {measured}"

    def _beyond(self) -> list[str]:
        limits = (
            ("late sends", self.late_share, LATE_SHARE),
            ("event-loop lag", self.lag_share, LAG_SHARE),
            ("busy event loop", self.busy_share, BUSY_SHARE),
        )
        return [f"{name} over {limit:.0%}" for name, share, limit in limits if share > limit]


def self_check(run: FinishedRun) -> SelfCheck | None:
    """Compute the client's check of itself in the last session; None where it was killed."""
    number = len(run.manifest.sessions) - 1
    ended = run.manifest.sessions[number].ended
    requests = run.records.phase(INFER).requests()
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
