"""The answer to a request for completions → what it says of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from mmlu_client.service.http.row import (
    AnswerError,
    Row,
    RowScore,
    ToldToken,
    logprob_of,
    token_of,
    whole_number,
)
from mmlu_client.service.messages import Timing

# Named so, a token is known by its id and not by its text, which several tokens may have.
ID_NAME = "token_id:"


@dataclass(frozen=True)
class EngineTimings:
    """trt-server's own timings of one request of the engine's.

    Attributes:
        timing: its stages.
        computed: tokens that the engine ran.
        flops: that these took.
    """

    timing: Timing
    computed: int
    flops: int


@dataclass(frozen=True)
class Read:
    """What an answer says.

    Attributes:
        scores: of each row, in the order in which they were asked.
        timings: of all of them together; None where the server tells none.
    """

    scores: list[RowScore]
    timings: EngineTimings | None


def read_answer(content: Any, rows: Sequence[Row], *, any_candidate: bool, keeps_apart: bool) -> Read:
    """Read the answer to a request.

    Args:
        content: its JSON.
        rows: what was asked.
        any_candidate: whether the log-probability of every candidate was asked for.
        keeps_apart: whether the server used nothing again that it had computed before, if it does not say.

    Raises:
        AnswerError: it is not what was asked for.
    """
    choices = content.get("choices") if isinstance(content, Mapping) else None
    if not isinstance(choices, list) or len(choices) != len(rows):
        raise AnswerError(f"it has not one choice for each of {len(rows)} prompts")
    timings = _timings(content)
    cached = _cached(content, rows[0], timings, keeps_apart=keeps_apart) if len(rows) == 1 else None
    by_place = {_index(choice, place): choice for place, choice in enumerate(map(_object, choices))}
    scores = [
        replace(_row_score(row, _object(by_place.get(place)), any_candidate), cached_tokens=cached)
        for place, row in enumerate(rows)
    ]
    return Read(scores, timings)


def _cached(
    content: Mapping[str, Any], row: Row, timings: EngineTimings | None, *, keeps_apart: bool
) -> int | None:
    """Return how many of the only row's tokens were not computed; None where it is not known."""
    tokens = len(row.token_ids)
    if (cached := _cached_tokens(content, tokens)) is not None:
        return cached
    if timings is not None:
        return whole_number(tokens - timings.computed, tokens)
    return 0 if keeps_apart else None


def _index(choice: Mapping[str, Any], place: int) -> int:
    """Return which prompt a choice is for: what it says, or else its place."""
    index = choice.get("index", place)
    return index if isinstance(index, int) else place


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AnswerError("a choice is no object")
    return value


def _row_score(row: Row, choice: Mapping[str, Any], any_candidate: bool) -> RowScore:
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, Mapping):
        raise AnswerError("no logprobs in a choice")
    places = _places(logprobs)
    if row.scored:
        places = places[: len(row.token_ids)]
        if [place.token for place in places] != list(row.token_ids):
            raise AnswerError("with echo it does not give the prompt's own tokens")
        scored = places[len(places) - row.scored :]
        return RowScore(
            own_logprobs=tuple(_finite(place.logprob) for place in scored),
            own_top=tuple(place.top for place in scored),
        )
    if not places:
        raise AnswerError("no token was generated, and so none has log-probabilities")
    told = places[0].told
    found = tuple(told.get(token) for token in row.candidate_ids)
    if any_candidate and None in found:
        missing = [token for token, each in zip(row.candidate_ids, found, strict=True) if each is None]
        raise AnswerError(f"no log-probabilities of the tokens {missing}, which were asked for")
    least = min(told.values()) if None in found else None
    return RowScore(logprobs=found, least_told=least, top=places[0].generated)


@dataclass(frozen=True)
class _Place:
    """What is told in one place: the token that stands there, and log-probabilities by token id."""

    token: int
    logprob: float | None
    told: Mapping[int, float]

    @property
    def generated(self) -> ToldToken:
        """The most likely token, in a place where the server generated it."""
        logprob = _finite(self.logprob)
        token, most = max(self.told.items(), key=lambda each: each[1], default=(self.token, logprob))
        return (token, most) if most > logprob else (self.token, logprob)

    @property
    def top(self) -> ToldToken:
        """The most likely token; of equally likely ones not the one that stands there."""
        if not self.told:
            raise AnswerError("it does not tell the most likely token")
        most = max(self.told.values())
        return next(
            (
                (token, logprob)
                for token, logprob in self.told.items()
                if logprob == most and token != self.token
            ),
            (self.token, most),
        )


def _places(logprobs: Mapping[str, Any]) -> list[_Place]:
    """Read OpenAI's form of log-probabilities, or that of llama.cpp, which has ids besides texts."""
    try:
        if isinstance(content := logprobs.get("content"), list):
            return [_place_with_ids(each) for each in content]
        return [
            _Place(_id(token), logprob, {_id(name): logprob_of(each) for name, each in (top or {}).items()})
            for token, logprob, top in zip(
                logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
            )
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnswerError(f"its logprobs are not in OpenAI's form ({error})") from None


def _place_with_ids(place: Mapping[str, Any]) -> _Place:
    told = {token_of(each["id"]): logprob_of(each["logprob"]) for each in place["top_logprobs"]}
    return _Place(token_of(place["id"]), logprob_of(place["logprob"]), told)


def _id(name: str) -> int:
    """Return the id that a token is named by; raise AnswerError where its text names it."""
    if not name.startswith(ID_NAME):
        raise AnswerError(
            f"it names tokens by their texts, like {name!r}, which several tokens may have, not by id"
        )
    return token_of(int(name.removeprefix(ID_NAME)))


def _finite(value: float | None) -> float:
    if value is None:
        raise AnswerError("it gives no log-probability of one of its tokens")
    return logprob_of(value)


def _cached_tokens(content: Mapping[str, Any], tokens: int) -> int | None:
    """Return how many of a prompt's tokens were not computed, where vLLM or llama.cpp says so."""
    usage, timings = content.get("usage"), content.get("timings")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    for found, name in ((details, "cached_tokens"), (timings, "cache_n")):
        if isinstance(found, Mapping) and (cached := whole_number(found.get(name), tokens)) is not None:
            return cached
    return None


def _timings(content: Mapping[str, Any]) -> EngineTimings | None:
    """Return trt-server's timings, where all prompts were in one of the engine's requests."""
    found = content.get("timings")
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], Mapping):
        return None
    try:
        stages = {each.name: int(found[0][f"{each.name}_ns"]) for each in fields(Timing)}
        return EngineTimings(Timing(**stages), int(found[0]["computed_tokens"]), int(found[0]["flops"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
