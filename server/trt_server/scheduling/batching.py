"""How much goes into one batch, and for how long the engine waits for more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trt_server.scheduling.request import ScoringRequest
from trt_server.scheduling.row import PromptRow


@dataclass(frozen=True)
class Batching:
    """The largest batch, and how requests are merged into one.

    Attributes:
        max_rows: Rows of a batch: its prompts, where none has continuations that need another row.
        max_tokens: Rows × tokens of the longest, padding included.
        max_delay_seconds: How long a request waits for others to go with it; 0 never merges: a batch is one
            request, as its caller sent it.
        max_scored_positions: Places of a batch whose next token is asked for; None: any number.
        length_multiple: Rows are padded to a multiple of so many tokens.
        max_row_tokens: The longest row, which is a batch of its own where it is more than max_tokens.
        max_seconds: Where no other number is given, max_tokens is as many as take about so long; None: it is
            what it is.
    """

    max_rows: int
    max_tokens: int
    max_delay_seconds: float
    max_scored_positions: int | None = None
    length_multiple: int = 1
    max_row_tokens: int = 0
    max_seconds: float | None = None

    def for_speed(self, tokens_per_second: float) -> Batching:
        """Return it with max_tokens for max_seconds: at least the longest row, and no more than it has."""
        if self.max_seconds is None:
            return self
        tokens = max(int(self.max_seconds * tokens_per_second), self.max_row_tokens)
        return replace(self, max_tokens=min(tokens, self.max_tokens))

    def takes(self, requests: Sequence[ScoringRequest]) -> bool:
        """Return whether these make one batch within the limits, padding counted."""
        rows = sum(len(request.rows) for request in requests)
        scored = sum(request.scored_positions for request in requests)
        return self._fits(rows, max(request.longest for request in requests), scored)

    def is_full(self, requests: Sequence[ScoringRequest]) -> bool:
        """Return whether not even one more prompt of the same length would go in."""
        rows = sum(len(request.rows) for request in requests) + 1
        scored = sum(request.scored_positions for request in requests) + 1
        return not self._fits(rows, max(request.longest for request in requests), scored)

    def split(self, rows: Sequence[PromptRow], numbers: Sequence[int]) -> Iterator[list[int]]:
        """Yield the numbers of the rows that go into each batch: as few batches as their order allows."""
        part: list[int] = []
        longest = scored = 0
        for number in numbers:
            tokens, places = rows[number].tokens, len(rows[number].scored)
            if part and not self._fits(len(part) + 1, max(longest, tokens), scored + places):
                yield part
                part, longest, scored = [], 0, 0
            part.append(number)
            longest, scored = max(longest, tokens), scored + places
        yield part

    def _fits(self, rows: int, longest: int, scored: int) -> bool:
        in_head = self.max_scored_positions is None or scored <= self.max_scored_positions
        return rows <= self.max_rows and rows * longest <= self.max_tokens and in_head
