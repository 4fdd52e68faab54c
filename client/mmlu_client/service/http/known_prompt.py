"""A prompt that every server is asked at the start, to find out what its answers are worth."""

from __future__ import annotations

import math

from mmlu_client.errors import InputError
from mmlu_client.service.http.row import Row, RowScore
from mmlu_client.service.plausible import ROUNDING

# Ids that every vocabulary has. What they say does not matter, only that they are the same each time.
_TOKENS = tuple(range(40, 72))
_CANDIDATES = (35, 36, 37, 38)
# Of other lengths, which a server may compute together with it.
_OTHERS = (tuple(range(50, 57)), tuple(range(60, 79)), tuple(range(30, 75)))

KNOWN = Row(_TOKENS, _CANDIDATES)
# The same among others, and its place there.
KNOWN_AMONG_OTHERS = (Row(_OTHERS[0], _CANDIDATES), KNOWN, *(Row(each, _CANDIDATES) for each in _OTHERS[1:]))
PLACE = 1
# The same as a text that is scored itself.
KNOWN_ITSELF = Row(_TOKENS, (), len(_TOKENS) - 1)


def no_logprobs(server: str, why: object) -> InputError:
    """Return the error of a server whose answers have no log-probabilities that can be used."""
    return InputError(
        f"{server} gives no log-probabilities that can be used ({why}): accuracy cannot be measured with it"
    )


def check_logprobs(score: RowScore, server: str) -> None:
    """Check that what a server calls log-probabilities can be some.

    Raises:
        InputError: they are above 0, or not finite.
    """
    found = [each for each in score.logprobs if each is not None]
    if score.top is not None:
        found.append(score.top[1])
    wrong = [each for each in found if each > ROUNDING or not math.isfinite(each)]
    if wrong or sum(map(math.exp, set(found))) > 1 + ROUNDING:
        raise InputError(
            f"what {server} gives as log-probabilities are none "
            f"({', '.join(f'{each:g}' for each in found)}): "
            "have it give those of the model, before sampling changes them"
        )


def largest_difference(first: RowScore, second: RowScore) -> float:
    """Return how far two answers' log-probabilities are apart, in nats, of the candidates that both told."""
    pairs = zip(first.logprobs, second.logprobs, strict=True)
    apart = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    if first.top is not None and second.top is not None and first.top[0] == second.top[0]:
        apart.append(abs(first.top[1] - second.top[1]))
    return max(apart, default=0.0)
