"""What one caller asked for, as arrays, and what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Scores
from trt_server.engines.prefix_store import PrefixStore


@dataclass(frozen=True)
class TokenPrompt:
    """token_ids: int32 [tokens], candidates: int32 [width], both at least one long.

    reusable_tokens: so many of the first may come from a prefix store, fewer than there are; 0: none.
    """

    token_ids: NDArray[np.int32]
    candidates: NDArray[np.int32]
    reusable_tokens: int = 0


@dataclass(frozen=True)
class BatchShape:
    """padded_length: tokens a prompt that the engine ran at once, without those of prefixes."""

    prompts: int
    padded_length: int


@dataclass(frozen=True)
class Stages:
    """Nanoseconds a request spent in each stage behind the queue's door."""

    queue_ns: int
    assemble_ns: int
    engine: EngineTiming


@dataclass(frozen=True)
class Answer:
    """For each prompt of the request a row of scores, and how many of its tokens came from a prefix store.

    padding_tokens: run and thrown away. engine: which of those behind its queue computed it.
    """

    scores: Scores
    reused_tokens: Sequence[int]
    padding_tokens: int
    stages: Stages
    batch: BatchShape
    engine: int = 0


@dataclass(eq=False)
class ScoringRequest:
    """Prompts that are run as one batch. `answer` is done on the event loop that made it; when its
    caller goes away it is cancelled, and nothing is computed for it from then on."""

    prompts: Sequence[TokenPrompt]
    answer: asyncio.Future[Answer]
    queued_ns: int = field(default=0)

    @property
    def abandoned(self) -> bool:
        return self.answer.cancelled()

    @property
    def longest(self) -> int:
        """Tokens of its longest prompt, without what may come from a prefix store."""
        return max(len(prompt.token_ids) - prompt.reusable_tokens for prompt in self.prompts)


def assemble(
    prompts: Sequence[TokenPrompt], length_multiple: int = 1, store: PrefixStore[Any] | None = None
) -> Batch:
    """Pad prompts on the right into one batch, whose length is a multiple of `length_multiple`.

    What prompts may take from `store` goes into the batch's prefixes, where the store can keep it.
    """
    starts = [_prefix_tokens(prompt, store) for prompt in prompts]
    lengths = np.array(
        [len(prompt.token_ids) - start for prompt, start in zip(prompts, starts, strict=True)], dtype=np.int32
    )
    length = -(-int(lengths.max()) // length_multiple) * length_multiple
    token_ids = np.zeros((len(prompts), length), dtype=np.int32)
    candidates = np.zeros((len(prompts), max(len(p.candidates) for p in prompts)), dtype=np.int32)
    for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        token_ids[row, : lengths[row]] = prompt.token_ids[start:]
        candidates[row, : len(prompt.candidates)] = prompt.candidates
    prefixes = tuple(prompt.token_ids[:start] for prompt, start in zip(prompts, starts, strict=True))
    return Batch(token_ids, lengths, candidates, prefixes if any(starts) else ())


def _prefix_tokens(prompt: TokenPrompt, store: PrefixStore[Any] | None) -> int:
    fits = store is not None and store.fits(prompt.reusable_tokens)
    return prompt.reusable_tokens if fits else 0
