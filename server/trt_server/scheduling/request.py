"""What one caller asks for at once, and who waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import ScoringResult
from trt_server.scheduling.row import PromptRow, rows_of
from trt_server.threads import futures

# The virtual time at which it begins, and how many requests of its caller waited then; the least comes first.
Turn: TypeAlias = "tuple[float, int]"


def _new_future() -> asyncio.Future[ScoringResult]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class ScoringRequest:
    """Prompts that one caller asks for at once. It is made on the event loop of the caller.

    Attributes:
        prompts: At least one.
        max_row_tokens: Of a row of a batch, a prefix included.
        tokenize_ns: Nanoseconds that the tokenization of its texts took; 0: the prompts came as token ids.
        caller: Equal for the requests of one caller; callers are served fairly.
        due: When its caller no longer waits for it, on the clock of time.monotonic; None: it waits for ever.
        first_part: The first part of a larger request, where this is a later one.
        queued_ns: When the queue took it, on the clock of time.perf_counter_ns.
        turn: Its turn, from when it is taken to be computed.
        measures: It is computed to learn how long that takes, whatever the estimate says.
        began: When it went to the engine, on the clock of time.monotonic; None: it has not.
        is_over: It has its result or its error, or is not computed any more.
        result: Done on the event loop that made the request. It is cancelled when the caller goes away, and
            nothing is computed for the request from then on.
        rows: Those of all prompts, one prompt's after the other's.
    """

    prompts: Sequence[TokenPrompt]
    max_row_tokens: int
    tokenize_ns: int = 0
    caller: str = ""
    due: float | None = None
    first_part: ScoringRequest | None = None
    queued_ns: int = field(default=0, init=False)
    turn: Turn = field(default=(0.0, 0), init=False)
    measures: bool = field(default=False, init=False)
    began: float | None = field(default=None, init=False)
    is_over: bool = field(default=False, init=False)
    result: asyncio.Future[ScoringResult] = field(default_factory=_new_future, init=False)
    rows: Sequence[PromptRow] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [row for prompt in self.prompts for row in rows_of(prompt, self.max_row_tokens)]

    def finish(self, result: ScoringResult) -> None:
        """Hand the result to the caller, from any thread."""
        self.is_over = True
        futures.set_result(self.result, result)

    def fail(self, error: Exception) -> None:
        """Hand the caller an error instead of a result, from any thread."""
        self.is_over = True
        futures.set_exception(self.result, error)

    @property
    def abandoned(self) -> bool:
        """Whether the caller has gone away."""
        return self.result.cancelled()

    def abandon(self) -> None:
        """Wait for it no longer. It is called on the event loop that made the request."""
        if not self.result.cancel() and not self.result.cancelled():
            # asyncio logs an error that nobody has looked at.
            self.result.exception()

    def is_late(self, seconds: float) -> bool:
        """Whether its caller no longer waits when it is computed so many seconds from now.

        One that measures is late only where its caller does not wait now.
        """
        return self.due is not None and time.monotonic() + (0.0 if self.measures else seconds) > self.due

    @property
    def is_first_part(self) -> bool:
        """Whether it is the first part of a larger request, or a request by itself."""
        return self.first_part is None

    @cached_property
    def tokens(self) -> int:
        """Tokens of its rows, without what may come from a prefix store."""
        return sum(row.tokens for row in self.rows)

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
