"""What one caller asks for, as arrays, and what the server finds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Scores
from trt_server.scheduling import futures
from trt_server.scheduling.stages import Stages


@dataclass(frozen=True)
class TokenPrompt:
    """One prompt, and the next tokens whose log-probabilities are asked for.

    Attributes:
        token_ids: int32 [tokens], at least one.
        candidates: int32 [width], at least one.
        reusable_tokens: So many of the first come from the engine's prefix store, or are computed for it: at
            least one less than there are, and no more than the engine can keep. 0: none.
    """

    token_ids: NDArray[np.int32]
    candidates: NDArray[np.int32]
    reusable_tokens: int = 0

    @property
    def prefix(self) -> NDArray[np.int32]:
        """Its first tokens, which may come from the prefix store: int32 [reusable_tokens]."""
        return self.token_ids[: self.reusable_tokens]

    @property
    def rest(self) -> NDArray[np.int32]:
        """The tokens after the prefix, which are always computed: int32, at least one."""
        return self.token_ids[self.reusable_tokens :]


@dataclass(frozen=True)
class ScoringResult:
    """What came of one request.

    Attributes:
        scores: A row for each prompt of the request, in its order.
        reused_tokens: For each prompt, how many of its tokens came from a prefix store.
        padding_tokens: Tokens that were run beside those of the request's prompts and thrown away.
        batch_prompts: Prompts in the batch that the engine ran, the largest where there were several.
        padded_length: Tokens of each prompt in that batch, padding included, without those of the prefix.
        stages: Where the request's time went.
        engine: The number, among the engines of the queue, of the one that computed it.
    """

    scores: Scores
    reused_tokens: Sequence[int]
    padding_tokens: int
    batch_prompts: int
    padded_length: int
    stages: Stages
    engine: int


def _new_future() -> asyncio.Future[ScoringResult]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class ScoringRequest:
    """Prompts that one caller asks for at once. It is made on the event loop of the caller.

    Attributes:
        prompts: At least one.
        tokenize_ns: Nanoseconds that the tokenization of its texts took; 0: the prompts came as token ids.
        queued_ns: When the queue took it, on the clock of time.perf_counter_ns.
        result: Done on the event loop that made the request. It is cancelled when the caller goes away, and
            nothing is computed for the request from then on.
    """

    prompts: Sequence[TokenPrompt]
    tokenize_ns: int = 0
    queued_ns: int = field(default=0, init=False)
    result: asyncio.Future[ScoringResult] = field(default_factory=_new_future, init=False)

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
        """Tokens of its longest prompt, without what may come from a prefix store."""
        return max(len(prompt.rest) for prompt in self.prompts)

    def shares_prefix(self, other: ScoringRequest) -> bool:
        """Whether both begin with the same prefix: only then can they be one batch."""
        return np.array_equal(self.prompts[0].prefix, other.prompts[0].prefix)


def fail_all(requests: Sequence[ScoringRequest], error: Exception) -> None:
    """Hand the callers of all these requests one error, from any thread."""
    for request in requests:
        request.fail(error)
