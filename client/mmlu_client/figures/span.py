"""When a phase ran: its whole time, and the steady part of it between ramp and drain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmlu_client.rundir.record_table import RecordTable


@dataclass(frozen=True)
class Span:
    """When a phase ran in one session, in nanoseconds of the client's monotonic clock.

    Until the first reply the load ramps up; after the last request was sent it drains.

    Attributes:
        due: when the first request was due.
        first_reply: when the first reply came.
        last_sent: when the last request was sent.
        last_reply: when the last reply came.
    """

    due: int
    first_reply: int
    last_sent: int
    last_reply: int

    @property
    def whole_seconds(self) -> float:
        """The first request due to the last reply."""
        return (self.last_reply - self.due) / 1e9

    @property
    def ramp_seconds(self) -> float:
        """The first request due to the first reply."""
        return (self.first_reply - self.due) / 1e9

    @property
    def drain_seconds(self) -> float:
        """The last request sent, or the first reply where that came later, to the last reply."""
        return (self.last_reply - max(self.last_sent, self.first_reply)) / 1e9

    @property
    def steady_seconds(self) -> float:
        """What lies between ramp and drain; 0 where they meet."""
        return max(0.0, (self.last_sent - self.first_reply) / 1e9)


def spans(table: RecordTable) -> dict[int, Span]:
    """Find the span of each session: a resumed run has several, and the time between them counts nowhere."""
    sent = table.with_other_requests()
    asked = sent.where(sent["client_ns.received"] > 0)
    return {
        int(session): _span(asked.where(asked["session"] == session))
        for session in np.unique(asked["session"])
    }


def _span(asked: RecordTable) -> Span:
    received = asked["client_ns.received"]
    return Span(
        due=int(asked["client_ns.due"].min()),
        first_reply=int(received.min()),
        last_sent=int(asked["client_ns.sent"].max()),
        last_reply=int(received.max()),
    )


def steady_rows(table: RecordTable, by_session: dict[int, Span]) -> RecordTable:
    """Choose the rows whose reply came after the ramp and before the drain."""
    received, inside = table["client_ns.received"], np.zeros(len(table), dtype=bool)
    for session, span in by_session.items():
        mine = table["session"] == session
        inside |= mine & (received > span.first_reply) & (received <= span.last_sent)
    return table.where(inside)
