"""An item with the answers to all its prompts, which come one by one, in any order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmlu_client.data.item import Item, Key
from mmlu_client.load.answer import Answer
from mmlu_client.prompts.prompt import Prompt
from mmlu_client.service.messages import Refusal, Reply, Score

# What the error of an item begins with whose scores are no numbers.
NOT_FINITE = "the server's log-probabilities are not finite"


@dataclass(frozen=True)
class AnsweredPrompt:
    """One prompt of an item, and what came back for it.

    Attributes:
        prompt: what was asked.
        score: what the server made of it; None where there is an error.
        answer: the request that it was in, with its reply or refusal and its times.
        error: why it has no score; None where it has one.
    """

    prompt: Prompt
    score: Score | None
    answer: Answer
    error: str | None


@dataclass(frozen=True)
class AnsweredItem:
    """An item with the answers to all its prompts.

    Attributes:
        item: the item.
        parts: its prompts in their order, at least one.
    """

    item: Item
    parts: Sequence[AnsweredPrompt]

    @property
    def error(self) -> str | None:
        """The first error of a prompt; None where all have scores."""
        return next((part.error for part in self.parts if part.error is not None), None)

    @property
    def answers(self) -> list[Answer]:
        """The requests that its prompts were in, each once, in the order of the prompts."""
        return list({part.answer.request.id: part.answer for part in self.parts}.values())


class Answers:
    """Collects the answers of a phase until every prompt of an item has one."""

    def __init__(self) -> None:
        self._parts: dict[Key, dict[int, AnsweredPrompt]] = {}

    def add(self, answer: Answer) -> Iterator[AnsweredItem]:
        """Take an answer, and yield the items that it completes."""
        for part in _parts(answer):
            item = part.prompt.item
            parts = self._parts.setdefault(item.key, {})
            parts[part.prompt.place] = part
            if len(parts) == part.prompt.count:
                del self._parts[item.key]
                yield AnsweredItem(item, [parts[place] for place in sorted(parts)])


def _parts(answer: Answer) -> list[AnsweredPrompt]:
    prompts, outcome = answer.request.prompts, answer.outcome
    error = _error(prompts, outcome)
    scores = outcome.scores if isinstance(outcome, Reply) and error is None else [None] * len(prompts)
    return [
        AnsweredPrompt(prompt, score, answer, error) for prompt, score in zip(prompts, scores, strict=True)
    ]


def _error(prompts: Sequence[Prompt], outcome: Reply | Refusal) -> str | None:
    if isinstance(outcome, Refusal):
        return f"{outcome.code}: {outcome.message}"
    if len(outcome.scores) != len(prompts):
        return f"the server answered {len(outcome.scores)} scores for {len(prompts)} prompts"
    for prompt, score in zip(prompts, outcome.scores, strict=True):
        if score.candidate_ids != prompt.candidate_ids or len(score.logprobs) != len(prompt.candidate_ids):
            return f"the server scored candidates {score.candidate_ids}, {prompt.candidate_ids} were asked"
        if (mismatch := _mismatch(prompt, score)) is not None:
            return mismatch
        told = [each for each in score.logprobs if each is not None]
        if (untold := len(score.logprobs) - len(told)) and (prompt.texts or not told):
            return (
                f"the server tells the most likely tokens alone, and {untold} of {len(score.logprobs)} "
                "candidates are none of them"
            )
        others = [*score.own_logprobs, *(each.logprob for each in score.continuations)]
        if not math.isfinite(sum(told) + score.top_logprob + sum(others)):
            return f"{NOT_FINITE}: {score.logprobs or tuple(others)}, of the arg-max {score.top_logprob}"
    return None


def _mismatch(prompt: Prompt, score: Score) -> str | None:
    """Say in what a score has not what its prompt asked for, apart from candidates; None: in nothing."""
    asked = [len(each) for each in prompt.continuations]
    found = [len(each.logprobs) for each in score.continuations]
    if asked != found:
        return f"the server scored continuations of {found} tokens, {asked} were asked"
    if len(score.own_logprobs) != prompt.own_tokens:
        found_own = len(score.own_logprobs)
        return f"the server scored {found_own} of a prompt's own tokens, {prompt.own_tokens} were asked"
    if len(score.own_top_tokens) != (prompt.own_tokens if prompt.top_tokens else 0):
        told = len(score.own_top_tokens)
        return f"the server told the most likely token in {told} of {prompt.own_tokens} places"
    return None
