"""The scores of a document's prompts → the log-likelihood of each of its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmlu_client.prompts.prompt import Prompt
from mmlu_client.service.messages import Score
from mmlu_client.tasks.document import TextScore


def text_scores(prompts: Sequence[tuple[Prompt, Score]]) -> list[TextScore]:
    """Add up the scores of each text, which several windows may have parts of.

    Args:
        prompts: all of a document's, with what the server made of each.
    """
    found: dict[int, TextScore] = {}
    for prompt, score in prompts:
        for number, part in zip(prompt.texts, _parts(prompt, score), strict=True):
            found[number] = _joined(found[number], part) if number in found else part
    return [found[number] for number in sorted(found)]


def _parts(prompt: Prompt, score: Score) -> Iterator[TextScore]:
    """Yield the score of each text, or window, of a prompt, in the order of `Prompt.texts`."""
    for ids, continuation in zip(prompt.continuations, score.continuations, strict=True):
        yield TextScore(continuation.logprob, continuation.is_greedy, len(ids))
    if not prompt.continuations:
        loglikelihood = sum(score.own_logprobs) + sum(each for each in score.logprobs if each is not None)
        yield TextScore(loglikelihood, _is_greedy(prompt, score), prompt.own_tokens + len(score.logprobs))


def _is_greedy(prompt: Prompt, score: Score) -> bool | None:
    if not prompt.top_tokens:
        return None
    own = prompt.token_ids[len(prompt.token_ids) - prompt.own_tokens :]
    return list(score.own_top_tokens) == list(own) and score.top_token == prompt.candidate_ids[0]


def _joined(left: TextScore, right: TextScore) -> TextScore:
    greedy = left.is_greedy
    return TextScore(
        left.loglikelihood + right.loglikelihood,
        None if greedy is None or right.is_greedy is None else greedy and right.is_greedy,
        left.tokens + right.tokens,
    )
