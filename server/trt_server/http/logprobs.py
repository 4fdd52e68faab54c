"""Log-probabilities as OpenAI's completions have them, and as vLLM's `prompt_logprobs` are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoring.v1 import scoring_pb2 as pb
from trt_common.tokenizer import Place, TokenDecoder

# What JSON has in place of an infinite one.
LOWEST = -9999.0

# A token's log-probability, and other tokens in its place with theirs.
Logprob = tuple[float | None, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class ScoredToken:
    """A token of a row, and what else might have stood there.

    Attributes:
        token_id: The token.
        text: Its text.
        place: The place before it.
        logprob: Its log-probability; None: nothing comes before it, or it was not asked for.
        others: Other tokens and their log-probabilities, in the order in which they are told.
    """

    token_id: int
    text: str
    place: Place
    logprob: float | None
    others: Sequence[tuple[int, float]]

    def with_others(self, count: int) -> ScoredToken:
        """Return the same with no more than so many other tokens."""
        return replace(self, others=self.others[:count])

    @property
    def told(self) -> Iterator[tuple[int, float]]:
        """Yield the token itself, then the others, with their log-probabilities; none where it has none."""
        if self.logprob is None:
            return
        yield self.token_id, max(self.logprob, LOWEST)
        for token_id, logprob in self.others:
            if token_id != self.token_id:
                yield token_id, max(logprob, LOWEST)


@dataclass(frozen=True)
class TokenNames:
    """What tokens are called in a reply: by their text, or `token_id:N`.

    Attributes:
        decoder: Of the model's tokenizer.
        by_id: Whether they are called by their ids.
    """

    decoder: TokenDecoder
    by_id: bool

    def own(self, token: ScoredToken) -> str:
        """Return the name of the token that stands in a place."""
        return self._by_id(token.token_id) if self.by_id else token.text

    def other(self, token: ScoredToken, token_id: int) -> str:
        """Return the name of any token in the place of another."""
        if token_id == token.token_id:
            return self.own(token)
        return self._by_id(token_id) if self.by_id else self.decoder.next_text(token.place, token_id)

    def _by_id(self, token_id: int) -> str:
        return f"token_id:{token_id}"


def own_tokens(scores: pb.TokenScores, top_tokens: int) -> list[Logprob]:
    """Return what the service says of each of a prompt's own tokens.

    Args:
        scores: As the service gives them.
        top_tokens: How many of the most likely tokens it gave in each place.
    """
    found: list[Logprob] = []
    for number, logprob in enumerate(scores.logprobs):
        places = slice(number * top_tokens, (number + 1) * top_tokens)
        others = zip(scores.top_token_ids[places], scores.top_logprobs[places], strict=True)
        found.append((logprob, list(others)))
    return found


def completion_logprobs(
    tokens: Sequence[ScoredToken], offsets: Sequence[int], names: TokenNames
) -> dict[str, Any]:
    """Return the `logprobs` of a choice.

    Tokens of one name are told once, with the highest of their log-probabilities.

    Args:
        tokens: Those of the choice.
        offsets: Where each begins in the choice's text, in characters.
        names: What tokens are called.
    """
    return {
        "text_offset": list(offsets),
        "token_logprobs": [None if token.logprob is None else max(token.logprob, LOWEST) for token in tokens],
        "tokens": [names.own(token) for token in tokens],
        "top_logprobs": [_by_name(token, names) for token in tokens],
    }


def prompt_logprobs(tokens: Sequence[ScoredToken], names: TokenNames) -> list[Mapping[str, Any] | None]:
    """Return the `prompt_logprobs` of a choice: for each token an object by id; None for the first.

    The rank of a token is null where it is none of the most likely ones that were asked for.

    Args:
        tokens: Those of the prompt.
        names: What tokens are called.
    """
    return [None if token.logprob is None else _by_token_id(token, names) for token in tokens]


def _by_token_id(token: ScoredToken, names: TokenNames) -> dict[str, Any]:
    ranks = {token_id: rank for rank, (token_id, _) in enumerate(token.others, start=1)}
    return {
        str(token_id): {
            "logprob": logprob,
            "rank": ranks.get(token_id),
            "decoded_token": names.other(token, token_id),
        }
        for token_id, logprob in token.told
    }


def _by_name(token: ScoredToken, names: TokenNames) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for token_id, logprob in token.told:
        name = names.other(token, token_id)
        found[name] = max(logprob, found.get(name, logprob))
    return found
