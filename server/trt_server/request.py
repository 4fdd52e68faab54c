"""What one caller asked for, as arrays, and what it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Scores


@dataclass(frozen=True)
class TokenPrompt:
    """token_ids: int32 [tokens], candidates: int32 [width], both at least one long."""

    token_ids: NDArray[np.int32]
    candidates: NDArray[np.int32]


@dataclass(frozen=True)
class BatchShape:
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
    """scores: a row for each prompt of the request."""

    scores: Scores
    stages: Stages
    batch: BatchShape


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


def assemble(prompts: Sequence[TokenPrompt]) -> Batch:
    """Pad prompts on the right into one batch."""
    lengths = np.array([len(prompt.token_ids) for prompt in prompts], dtype=np.int32)
    token_ids = np.zeros((len(prompts), int(lengths.max())), dtype=np.int32)
    candidates = np.zeros((len(prompts), max(len(p.candidates) for p in prompts)), dtype=np.int32)
    for row, prompt in enumerate(prompts):
        token_ids[row, : len(prompt.token_ids)] = prompt.token_ids
        candidates[row, : len(prompt.candidates)] = prompt.candidates
    return Batch(token_ids=token_ids, lengths=lengths, candidates=candidates)
