"""Prompts with continuations, as the rows of an engine's batch, and what is asked for there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from trt_server.engines.engine import ALWAYS_VISIBLE, Batch, Scores, padded_length

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class ContinuedPrompt:
    """A prompt and what is asked of it.

    Attributes:
        tokens: The prompt.
        continuations: The tokens of each.
        candidates: Of the prompt's next token.
        own_tokens: How many of the prompt's last tokens are asked for.
    """

    tokens: Tokens
    continuations: tuple[Tokens, ...] = ()
    candidates: Tokens = ()
    own_tokens: int = 0


@dataclass
class PackedBatch:
    """A batch, and for each place that is scored the whole text that ends there."""

    batch: Batch
    contexts: list[Tokens]

    def assert_agrees(self, scores: Scores, expected: NDArray[np.float32], tolerance: float) -> None:
        """Compare scores with log-probabilities, float32 [scored, vocabulary], of the unpacked texts."""
        targets = expected[self.batch.target_places, self.batch.target_ids]
        np.testing.assert_allclose(scores.target_logprobs, targets, atol=tolerance, rtol=0)
        np.testing.assert_allclose(scores.top_logprob, expected.max(1), atol=tolerance, rtol=0)
        places, count = np.arange(len(expected)), self.batch.top_count
        np.testing.assert_allclose(
            expected[places, scores.top_token], expected.max(1), atol=tolerance, rtol=0
        )
        if not count:
            assert scores.top_tokens is None
            assert scores.top_logprobs is None
            return
        assert scores.top_tokens is not None
        assert scores.top_logprobs is not None
        assert scores.top_tokens.shape == scores.top_logprobs.shape == (len(expected), count)
        most = -np.sort(-expected, axis=1)[:, :count]
        np.testing.assert_allclose(scores.top_logprobs, most, atol=tolerance, rtol=0)
        found = expected[places[:, None], scores.top_tokens]
        np.testing.assert_allclose(found, most, atol=tolerance, rtol=0)
        assert all(len(set(row)) == count for row in scores.top_tokens.tolist())
        np.testing.assert_array_equal(scores.top_tokens[:, 0], scores.top_token)


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    until: list[int] = field(default_factory=list)

    def append(self, tokens: Sequence[int], position: int, until: int) -> int:
        """Append tokens, and return the place of the first."""
        start = len(self.tokens)
        self.tokens += tokens
        self.positions += range(position, position + len(tokens))
        self.until += [until] * len(tokens)
        return start


class _Questions:
    """The places that are scored, and the targets there."""

    def __init__(self) -> None:
        self.scored: dict[int, Tokens] = {}
        self.targets: list[tuple[int, int]] = []

    def ask(self, place: int, context: Tokens, *targets: int) -> None:
        self.scored[place] = context
        self.targets += [(place, target) for target in targets]


def packed(
    prompts: Sequence[ContinuedPrompt], prefix_tokens: int = 0, top_count: int = 0, multiple: int = 1
) -> PackedBatch:
    """Pack each prompt and its continuations into a row.

    Args:
        prompts: Their first `prefix_tokens` tokens are the same.
        prefix_tokens: How many of them are the batch's prefix.
        top_count: How many of the most likely tokens are asked for.
        multiple: What the length of the batch is padded to.
    """
    lengths = [len(each.tokens) - prefix_tokens + sum(map(len, each.continuations)) for each in prompts]
    length = padded_length(max(lengths), multiple)
    questions, rows = _Questions(), []
    for number, each in enumerate(prompts):
        rows.append(_row_of(each, prefix_tokens, number * length, questions))
    places = {place: index for index, place in enumerate(questions.scored)}
    return PackedBatch(
        Batch(
            token_ids=_padded([row.tokens for row in rows], length),
            lengths=np.array(lengths, np.int32),
            positions=_padded([row.positions for row in rows], length),
            visible_until=_padded([row.until for row in rows], length),
            scored=np.array(list(places), np.int32),
            target_ids=np.array([target for _, target in questions.targets], np.int32),
            target_places=np.array([places[place] for place, _ in questions.targets], np.int32),
            top_count=top_count,
            prefix=np.array(prompts[0].tokens[:prefix_tokens], np.int32) if prefix_tokens else None,
        ),
        list(questions.scored.values()),
    )


def _row_of(asked: ContinuedPrompt, prefix_tokens: int, first_place: int, questions: _Questions) -> _Row:
    row, prompt = _Row(), asked.tokens
    row.append(prompt[prefix_tokens:], prefix_tokens, ALWAYS_VISIBLE)
    last = first_place + len(row.tokens) - 1
    for index in range(max(len(prompt) - asked.own_tokens, prefix_tokens + 1), len(prompt)):
        questions.ask(first_place + index - 1 - prefix_tokens, prompt[:index], prompt[index])
    questions.ask(last, prompt, *asked.candidates)
    for continuation in asked.continuations:
        questions.ask(last, prompt, continuation[0])
        end = len(row.tokens) + len(continuation) - 1
        start = first_place + row.append(continuation, len(prompt), end)
        for index in range(1, len(continuation)):
            questions.ask(start + index - 1, prompt + continuation[:index], continuation[index])
    return row


def _padded(rows: Sequence[Sequence[int]], length: int) -> NDArray[np.int32]:
    padded = np.zeros((len(rows), length), np.int32)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
