"""What was measured in one phase: its records, its requests, and how long they took."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mmlu_client.figures.arithmetic import ratio
from mmlu_client.figures.span import Span, spans
from mmlu_client.rundir.record_table import RecordTable


@dataclass(frozen=True)
class MeasuredPhase:
    """The records of one phase, with what its speed is computed of.

    Attributes:
        records: a row an item.
    """

    records: RecordTable

    @cached_property
    def scored(self) -> RecordTable:
        """The records with scores."""
        return self.records.where(self.records.is_scored)

    @cached_property
    def requests(self) -> RecordTable:
        """A row a request."""
        return self.records.requests()

    @cached_property
    def spans(self) -> dict[int, Span]:
        """When each session asked."""
        return spans(self.records)

    @cached_property
    def tokens(self) -> int:
        """How many logical tokens the answered prompts have."""
        return int(self.scored["tokens.logical"].sum())

    @cached_property
    def core_seconds(self) -> float | None:
        """The engine's seconds; None where the server does not tell them."""
        return core_seconds(self.requests)

    @property
    def whole_seconds(self) -> float | None:
        """The phase's seconds; None where nothing was asked."""
        return sum(span.whole_seconds for span in self.spans.values()) if self.spans else None

    @property
    def tokens_per_whole_second(self) -> float | None:
        """Logical tokens over the phase's seconds."""
        return ratio(self.tokens, self.whole_seconds)

    @property
    def tokens_per_core_second(self) -> float | None:
        """Logical tokens over the engine's seconds."""
        return ratio(self.tokens, self.core_seconds)


def core_seconds(requests: RecordTable) -> float | None:
    """Add up the engine's seconds; None where the server does not tell them."""
    return float(requests["server_ns.core"].sum()) / 1e9 if requests.knows("server_ns") else None
