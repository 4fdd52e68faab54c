"""What a prompt is asked in over HTTP: rows of token ids, and what came back for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from mmlu_client.prompts.prompt import Prompt
from mmlu_client.service.messages import ContinuationScore, Score
from mmlu_client.service.model_config import FlopsOf

# Larger than every vocabulary.
MOST_ID = 2**32 - 1
# A token id and its natural-logarithm probability.
ToldToken = tuple[int, float]


class AnswerError(Exception):
    """An answer lacks what was asked for, or has it in another form; the text says what."""


@dataclass(frozen=True)
class Row:
    """What is sent for a prompt, or for one of its continuations: token ids, some of which are scored.

    Attributes:
        token_ids: all of them.
        candidate_ids: whose log-probabilities after the last token are asked for.
        scored: how many of the last tokens are scored.
    """

    token_ids: Sequence[int]
    candidate_ids: tuple[int, ...] = ()
    scored: int = 0


@dataclass(frozen=True)
class RowScore:
    """What came back for a row.

    Attributes:
        logprobs: of its candidates; None for one that the server did not tell.
        least_told: the least log-probability that the server told in the candidates' place; None where it
            told all of theirs.
        top: the most likely token after the row.
        own_logprobs: of its scored tokens.
        own_top: the most likely token in the place of each of these.
        cached_tokens: how many of its first tokens were not computed anew; None: the server does not say.
    """

    logprobs: tuple[float | None, ...] = ()
    least_told: float | None = None
    top: ToldToken | None = None
    own_logprobs: tuple[float, ...] = ()
    own_top: tuple[ToldToken, ...] = ()
    cached_tokens: int | None = None


def token_of(value: object) -> int:
    """Return a value that is a token id; raise AnswerError where it is none."""
    token = whole_number(value, MOST_ID)
    if token is None:
        raise AnswerError(f"{value!r:.50} is no token id")
    return token


def logprob_of(value: object) -> float:
    """Return a value that is a number; raise AnswerError where it is none."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
            return float(value)
    except OverflowError:  # an integer that is larger than every float
        pass
    raise AnswerError(f"{value!r:.50} is no log-probability")


def whole_number(value: object, most: int) -> int | None:
    """Return a value where it is a whole number from 0 to `most`; None where it is something else."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= most else None  # type: ignore[operator,return-value]


def rows_of(prompt: Prompt, *, any_candidate: bool) -> list[Row]:
    """Return the rows that a prompt is asked in.

    That is one; with continuations one for each, but where each is a single token, and the server tells any
    candidate's log-probability, they are candidates of one row.

    Args:
        prompt: what is asked.
        any_candidate: whether the server tells any candidate's log-probability.
    """
    if prompt.continuations:
        if any_candidate and all(len(each) == 1 for each in prompt.continuations):
            return [Row(prompt.token_ids, tuple(each[0] for each in prompt.continuations))]
        return [Row([*prompt.token_ids, *each], (), len(each)) for each in prompt.continuations]
    if prompt.own_tokens:
        # The candidate is the text's last token, and is scored as the tokens before it are.
        ids = [*prompt.token_ids, *prompt.candidate_ids]
        return [Row(ids, (), prompt.own_tokens + len(prompt.candidate_ids))]
    return [Row(prompt.token_ids, prompt.candidate_ids)]


def scores_of(
    prompts: Sequence[Prompt],
    rows: Sequence[Sequence[Row]],
    found: Sequence[RowScore],
    flops_of: FlopsOf | None,
) -> list[Score]:
    """Put the scores of a request's prompts together.

    Args:
        prompts: what was asked.
        rows: that each was asked in.
        found: what came back for the rows of all, one after the other.
        flops_of: computes a row's floating-point operations; None where the model's sizes are not known.

    Raises:
        AnswerError: what came back lacks something.
    """
    scores, left = [], iter(found)
    for prompt, mine in zip(prompts, rows, strict=True):
        scores.append(_score_of(prompt, mine, list(islice(left, len(mine))), flops_of))
    return scores


def _score_of(
    prompt: Prompt, rows: Sequence[Row], found: Sequence[RowScore], flops_of: FlopsOf | None
) -> Score:
    cached = [each.cached_tokens for each in found]
    known = [each for each in cached if each is not None]
    logical = _logical_tokens(prompt)
    flops = None
    if flops_of is not None:
        flops = sum(
            flops_of(row.token_ids, each or 0, row.scored or 1)
            for row, each in zip(rows, cached, strict=True)
        )
    own, candidates, least, top = _own_and_candidates(prompt, found[0])
    return Score(
        candidate_ids=prompt.candidate_ids,
        logprobs=candidates,
        top_token=top[0],
        top_logprob=top[1],
        logical_tokens=logical,
        computed_tokens=_computed(prompt, rows, known) if len(known) == len(rows) else None,
        flops=flops,
        continuations=tuple(_continuations(prompt, rows, found)),
        own_logprobs=own,
        own_top_tokens=tuple(each for each, _ in found[0].own_top[: len(own)]) if prompt.top_tokens else (),
        least_told=least,
    )


def _logical_tokens(prompt: Prompt) -> int:
    if not prompt.continuations:
        return len(prompt.token_ids)
    return sum(len(prompt.token_ids) + len(each) for each in prompt.continuations)


def _computed(prompt: Prompt, rows: Sequence[Row], cached: Sequence[int]) -> int:
    """Count the tokens that were computed: a candidate that was sent as the last of a row is none of them."""
    if prompt.own_tokens and not prompt.continuations:
        return max(1, len(prompt.token_ids) - cached[0])
    return sum(len(row.token_ids) - each for row, each in zip(rows, cached, strict=True))


def _own_and_candidates(
    prompt: Prompt, found: RowScore
) -> tuple[tuple[float, ...], tuple[float | None, ...], float | None, ToldToken]:
    """Return the prompt's own log-probabilities, its candidates', the least told, the likeliest token."""
    if prompt.continuations:
        return (), (), None, found.top or found.own_top[0]
    if not prompt.own_tokens:
        return (), found.logprobs, found.least_told, _present(found.top)
    own = found.own_logprobs
    if not prompt.candidate_ids:
        return own, (), None, found.top or found.own_top[-1]
    return own[:-1], own[-1:], None, found.own_top[-1]


def _present(token: ToldToken | None) -> ToldToken:
    if token is None:
        raise AnswerError("it does not tell the most likely token")
    return token


def _continuations(prompt: Prompt, rows: Sequence[Row], found: Sequence[RowScore]) -> list[ContinuationScore]:
    if not prompt.continuations:
        return []
    if len(rows) < len(prompt.continuations) or not rows[0].scored:
        top, _ = _present(found[0].top)
        return [
            ContinuationScore((logprob,), logprob, ids[0] == top)
            for ids, logprob in zip(prompt.continuations, found[0].logprobs, strict=True)
            if logprob is not None
        ]
    return [
        ContinuationScore(
            each.own_logprobs,
            sum(each.own_logprobs),
            [token for token, _ in each.own_top] == list(ids),
        )
        for ids, each in zip(prompt.continuations, found, strict=True)
    ]
