"""What the server finds for one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_server.scheduling.stages import Stages


@dataclass(frozen=True)
class TokenLogprobs:
    """Tokens in their order; log-probabilities are natural logarithms.

    Attributes:
        token_ids: int32 [tokens].
        logprobs: float32 [tokens], of each token after all before it.
        is_greedy: Whether each of them is the arg-max of the whole vocabulary in its place.
        top_tokens: int32 [tokens, top_count], the most likely tokens in the place of each, most likely first.
        top_logprobs: float32 [tokens, top_count].
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    is_greedy: bool
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class NextToken:
    """The token after a prompt.

    Attributes:
        top_token: The arg-max of the whole vocabulary.
        top_logprob: Its log-probability.
        top_tokens: int32 [top_count], the most likely ones, most likely first.
        top_logprobs: float32 [top_count].
    """

    top_token: int
    top_logprob: float
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class PromptResult:
    """What came of one prompt.

    Attributes:
        candidate_logprobs: float32 [width], in the order of the prompt's candidates.
        next_token: The token after the prompt.
        own: The prompt's own tokens that were asked for; None: none were.
        continuations: In the order of the prompt's.
        computed: The stretches of text that the engine ran for it, each as its first position and the one
            after its last.
        scored_positions: Places in which the head ran.
        last_layer: The positions, in their text, for which the last layer was computed whole; None: all.
    """

    candidate_logprobs: NDArray[np.float32]
    next_token: NextToken
    own: TokenLogprobs | None
    continuations: Sequence[TokenLogprobs]
    computed: Sequence[tuple[int, int]]
    scored_positions: int
    last_layer: Sequence[int] | None = None

    @property
    def computed_tokens(self) -> int:
        """Tokens that the engine ran for it, without padding."""
        return sum(end - start for start, end in self.computed)


@dataclass(frozen=True)
class ScoringResult:
    """What came of one request.

    Attributes:
        prompts: One for each prompt of the request, in its order.
        padding_tokens: Tokens that were run beside those of the request's prompts and thrown away.
        batch_rows: Rows of the batch that the engine ran, the largest where there were several.
        padded_length: Tokens of each row in that batch, padding included, without those of the prefix.
        stages: Where the request's time went.
        engine: The number, among the engines of the queue, of the one that computed it.
    """

    prompts: Sequence[PromptResult]
    padding_tokens: int
    batch_rows: int
    padded_length: int
    stages: Stages
    engine: int
