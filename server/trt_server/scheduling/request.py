"""What one caller asked for, as arrays, and what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Scores, padded_length


@dataclass(frozen=True)
class TokenPrompt:
    """token_ids: int32 [tokens], candidates: int32 [width], both at least one long.

    reusable_tokens: so many of the first come from the engine's prefix store, or are computed for it: fewer
    than there are, and no more than it can keep; 0: none.
    """

    token_ids: NDArray[np.int32]
    candidates: NDArray[np.int32]
    reusable_tokens: int = 0

    @property
    def prefix(self) -> NDArray[np.int32]:
        return self.token_ids[: self.reusable_tokens]

    @property
    def rest(self) -> NDArray[np.int32]:
        return self.token_ids[self.reusable_tokens :]


@dataclass(frozen=True)
class BatchShape:
    """prompts that the engine ran at once. padded_length: tokens of each, without those of their prefix."""

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

    padding_tokens: run and thrown away. batch: the largest, where the request's prompts ran in several.
    engine: which of those behind its queue computed it.
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
        return max(len(prompt.rest) for prompt in self.prompts)

    def shares_prefix(self, other: ScoringRequest) -> bool:
        """Whether both begin with the same prefix: only then can they be one batch."""
        return np.array_equal(self.prompts[0].prefix, other.prompts[0].prefix)


@dataclass(frozen=True)
class Part:
    """One batch, and which prompts its rows are."""

    rows: tuple[int, ...]
    batch: Batch


def assemble(prompts: Sequence[TokenPrompt], length_multiple: int = 1) -> list[Part]:
    """Prompts as batches for the engine: one, or where several prefixes are named one for each of them.

    Lengths are padded on the right to a multiple of `length_multiple`.
    """
    groups: dict[bytes, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt.prefix.tobytes(), []).append(row)
    return [
        Part(tuple(rows), _batch([prompts[row] for row in rows], length_multiple)) for rows in groups.values()
    ]


def _batch(prompts: Sequence[TokenPrompt], length_multiple: int) -> Batch:
    lengths = np.array([len(prompt.rest) for prompt in prompts], dtype=np.int32)
    token_ids = np.zeros((len(prompts), padded_length(int(lengths.max()), length_multiple)), dtype=np.int32)
    candidates = np.zeros((len(prompts), max(len(p.candidates) for p in prompts)), dtype=np.int32)
    for row, prompt in enumerate(prompts):
        token_ids[row, : lengths[row]] = prompt.rest
        candidates[row, : len(prompt.candidates)] = prompt.candidates
    prefix = prompts[0].prefix
    return Batch(token_ids, lengths, candidates, prefix if len(prefix) else None)
