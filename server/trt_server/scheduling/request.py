"""What one caller asks for at once, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trt_server.scheduling import futures
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import ScoringResult
from trt_server.scheduling.row import PromptRow, rows_of


def _new_future() -> asyncio.Future[ScoringResult]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class ScoringRequest:
    """Prompts that one caller asks for at once. It is made on the event loop of the caller.

    Attributes:
        prompts: At least one.
        max_row_tokens: Of a row of a batch, a prefix included.
        tokenize_ns: Nanoseconds that the tokenization of its texts took; 0: the prompts came as token ids.
        queued_ns: When the queue took it, on the clock of time.perf_counter_ns.
        result: Done on the event loop that made the request. It is cancelled when the caller goes away, and
            nothing is computed for the request from then on.
        rows: Those of all prompts, one prompt's after the other's.
    """

    prompts: Sequence[TokenPrompt]
    max_row_tokens: int
    tokenize_ns: int = 0
    queued_ns: int = field(default=0, init=False)
    result: asyncio.Future[ScoringResult] = field(default_factory=_new_future, init=False)
    rows: Sequence[PromptRow] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [row for prompt in self.prompts for row in rows_of(prompt, self.max_row_tokens)]

    def finish(self, result: ScoringResult) -> None:
        """Hand the result to the caller, from any thread."""
        futures.set_result(self.result, result)

    def fail(self, error: Exception) -> None:
        """Hand the caller an error instead of a result, from any thread."""
        futures.set_exception(self.result, error)

    @property
    def abandoned(self) -> bool:
        """Whether the caller has gone away."""
        return self.result.cancelled()

    @property
    def longest(self) -> int:
        """Tokens of its longest row, without what may come from a prefix store."""
        return max(row.tokens for row in self.rows)

    @property
    def scored_positions(self) -> int:
        """Places whose next token is asked for."""
        return sum(len(row.scored) for row in self.rows)

    def shares_prefix(self, other: ScoringRequest) -> bool:
        """Whether both begin with the same prefix: only then can they be one batch."""
        return np.array_equal(self.prompts[0].prefix, other.prompts[0].prefix)


def fail_all(requests: Sequence[ScoringRequest], error: Exception) -> None:
    """Hand the callers of all these requests one error, from any thread."""
    for request in requests:
        request.fail(error)
