"""How prompts and their continuations become the rows of a batch, and the scores of a row theirs again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import ALWAYS_VISIBLE, Batch, Scores, padded_length
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.result import NextToken, TokenLogprobs


@dataclass(frozen=True)
class PromptRow:
    """A prompt without its prefix, and continuations of it behind it, one after the other.

    Attributes:
        prompt: What is scored.
        continuations: Those of the prompt's continuations that are in this row.
        is_first: Whether it is the prompt's first row, in which the prompt's own tokens and its candidates
            are scored.
    """

    prompt: TokenPrompt
    continuations: Sequence[NDArray[np.int32]]
    is_first: bool

    @cached_property
    def tokens(self) -> int:
        """How many tokens the row has."""
        return len(self.prompt.rest) + sum(map(len, self.continuations))

    @property
    def own_tokens(self) -> int:
        """How many of the prompt's own tokens are scored in this row."""
        return self.prompt.own_tokens if self.is_first else 0

    @property
    def candidates(self) -> NDArray[np.int32]:
        """The candidates that are scored in this row."""
        return self.prompt.candidates if self.is_first else self.prompt.candidates[:0]

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """The prompt's tokens, then those of each continuation: int32 [tokens]."""
        return np.concatenate([self.prompt.rest, *self.continuations])

    @property
    def positions(self) -> NDArray[np.int32]:
        """Each token's place in its own text, which is the prompt and one continuation: int32 [tokens]."""
        start, end = self.prompt.reusable_tokens, len(self.prompt.token_ids)
        spans = [(start, end), *((end, end + len(each)) for each in self.continuations)]
        return np.concatenate([np.arange(*span, dtype=np.int32) for span in spans])

    @property
    def visible_until(self) -> NDArray[np.int32]:
        """The last place of the row that sees each token: int32 [tokens]."""
        until, end = np.full(self.tokens, ALWAYS_VISIBLE, np.int32), len(self.prompt.rest)
        for continuation in self.continuations:
            start, end = end, end + len(continuation)
            until[start:end] = end - 1
        return until

    @cached_property
    def scored(self) -> NDArray[np.int32]:
        """The places whose next token is asked for, int32 [scored].

        First those before the prompt's own tokens that are scored, then the prompt's last, then those of each
        continuation but its last.
        """
        end = len(self.prompt.rest)
        places = [np.arange(end - 1 - self.own_tokens, end, dtype=np.int32)]
        for continuation in self.continuations:
            start, end = end, end + len(continuation)
            places.append(np.arange(start, end - 1, dtype=np.int32))
        return np.concatenate(places)

    @cached_property
    def targets(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The tokens whose log-probability is asked for, and which of `scored` each of them follows.

        First the prompt's own, then the candidates, then the tokens of each continuation.
        """
        last = self.own_tokens
        own = self.prompt.token_ids[len(self.prompt.token_ids) - last :]
        ids, places = [own, self.candidates], [np.arange(last), np.full(len(self.candidates), last)]
        for continuation, where in zip(self.continuations, self._continuation_places(), strict=True):
            ids.append(continuation)
            places.append(where)
        return np.concatenate(ids).astype(np.int32), np.concatenate(places).astype(np.int32)

    def own_logprobs(self, scores: Scores) -> TokenLogprobs | None:
        """Return those of the prompt's own tokens that are asked for.

        Args:
            scores: Those of this row alone, as `scored` and `targets` have them.
        """
        count = self.own_tokens
        if not count:
            return None
        own = self.prompt.token_ids[-count:]
        return self._logprobs(scores, own, scores.target_logprobs[:count], np.arange(count))

    def candidate_logprobs(self, scores: Scores) -> NDArray[np.float32]:
        """Return those of the candidates, float32 [width]."""
        return scores.target_logprobs[self.own_tokens : self.own_tokens + len(self.candidates)]

    def next_token(self, scores: Scores) -> NextToken:
        """Return what the model thinks of the token after the prompt."""
        last = self.own_tokens
        ids, logprobs = self._top(scores, np.array([last]))
        return NextToken(int(scores.top_token[last]), float(scores.top_logprob[last]), ids[0], logprobs[0])

    def continuation_logprobs(self, scores: Scores) -> Iterator[TokenLogprobs]:
        """Yield those of each continuation of the row."""
        start = self.own_tokens + len(self.candidates)
        for continuation, places in zip(self.continuations, self._continuation_places(), strict=True):
            found = scores.target_logprobs[start : start + len(continuation)]
            start += len(continuation)
            yield self._logprobs(scores, continuation, found, places)

    def _continuation_places(self) -> Iterator[NDArray[np.int64]]:
        """For each continuation, which of `scored` its tokens follow."""
        start = self.own_tokens + 1
        for continuation in self.continuations:
            end = start + len(continuation) - 1
            yield np.concatenate([[self.own_tokens], np.arange(start, end)]).astype(np.int64)
            start = end

    def _logprobs(
        self,
        scores: Scores,
        token_ids: NDArray[np.int32],
        logprobs: NDArray[np.float32],
        places: NDArray[np.int64],
    ) -> TokenLogprobs:
        is_top = bool((scores.top_token[places] == token_ids).all())
        return TokenLogprobs(token_ids, logprobs, is_top, *self._top(scores, places))

    def _top(
        self, scores: Scores, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return as many of the most likely tokens as this prompt asks for, in each of these places."""
        count = self.prompt.top_count
        if scores.top_tokens is None or scores.top_logprobs is None:
            return np.zeros((len(places), 0), np.int32), np.zeros((len(places), 0), np.float32)
        return scores.top_tokens[places, :count], scores.top_logprobs[places, :count]


def rows_of(prompt: TokenPrompt, max_tokens: int) -> list[PromptRow]:
    """Put a prompt's continuations behind it, in as few rows as they fit in.

    Every row after the first has the prompt in it again, which is computed again.

    Args:
        prompt: What is scored.
        max_tokens: Of a row, a prefix included; at least those of the prompt and its longest continuation.
    """
    parts: list[list[NDArray[np.int32]]] = [[]]
    tokens = len(prompt.token_ids)
    for continuation in prompt.continuations:
        if parts[-1] and tokens + len(continuation) > max_tokens:
            parts.append([])
            tokens = len(prompt.token_ids)
        parts[-1].append(continuation)
        tokens += len(continuation)
    return [PromptRow(prompt, part, number == 0) for number, part in enumerate(parts)]


def make_batch(rows: Sequence[PromptRow], length_multiple: int) -> Batch:
    """Put rows of prompts with one prefix, or none, into the arrays of one batch.

    Args:
        rows: In the order of the batch's rows.
        length_multiple: Rows are padded on the right to the next multiple of so many tokens.
    """
    lengths = np.array([row.tokens for row in rows], np.int32)
    shape = len(rows), padded_length(int(lengths.max()), length_multiple)
    token_ids, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    until = np.full(shape, ALWAYS_VISIBLE, np.int32)
    scored, target_ids, target_places, places = [], [], [], 0
    for number, row in enumerate(rows):
        token_ids[number, : row.tokens] = row.token_ids
        positions[number, : row.tokens] = row.positions
        until[number, : row.tokens] = row.visible_until
        scored.append(row.scored + number * shape[1])
        ids, of_scored = row.targets
        target_ids.append(ids)
        target_places.append(of_scored + places)
        places += len(scored[-1])
    if not sum(map(len, target_ids)):
        # An engine is always asked for one.
        target_ids, target_places = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)]
    prefix = rows[0].prompt.prefix
    return Batch(
        token_ids=token_ids,
        lengths=lengths,
        positions=positions,
        visible_until=until,
        scored=np.concatenate(scored).astype(np.int32),
        target_ids=np.concatenate(target_ids),
        target_places=np.concatenate(target_places).astype(np.int32),
        top_count=max(row.prompt.top_count for row in rows),
        prefix=prefix if len(prefix) else None,
    )


def scores_of_rows(rows: Sequence[PromptRow], scores: Scores) -> Iterator[Scores]:
    """Yield each row's part of a batch's scores."""
    place, target = 0, 0
    for row in rows:
        places = slice(place, place + len(row.scored))
        targets = slice(target, target + len(row.targets[0]))
        place, target = places.stop, targets.stop
        top, logprobs = scores.top_tokens, scores.top_logprobs
        yield Scores(
            scores.target_logprobs[targets],
            scores.top_token[places],
            scores.top_logprob[places],
            None if top is None else top[places],
            None if logprobs is None else logprobs[places],
        )
