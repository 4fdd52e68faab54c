"""OpenAI's `/v1/completions`, with the fields by which vLLM, and trt-server, tell chosen tokens exactly."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from http import HTTPStatus
from typing import Any

from mmlu_client.errors import InputError, RunError, StreamLostError
from mmlu_client.service.http.dialect import Described, Learnt
from mmlu_client.service.http.endpoint import HttpAnswer, HttpEndpoint
from mmlu_client.service.http.known_prompt import (
    CANDIDATES,
    KNOWN,
    OTHERS,
    check_logprobs,
    largest_difference,
)
from mmlu_client.service.http.models import served_model
from mmlu_client.service.http.refusal import refused
from mmlu_client.service.http.row import AnswerError, Row, RowScore, ToldToken, rows_of, score_of
from mmlu_client.service.messages import Refusal, Reply, Request, Timing
from mmlu_client.service.model_config import FlopsOf

PATH = "/v1/completions"
# Named so, a token is known by its id and not by its text, which several tokens may have.
ID_NAME = "token_id:"
# The most likely tokens that are asked for where a server does not tell chosen ones; what servers allow
# differs.
MOST_LIKELY = (20, 5)
# Fields that not every server knows, in the order in which they are left out where a refusal does not say
# which.
OPTIONAL = (
    "cache_prompt",
    "cache_salt",
    "repetition_penalty",
    "return_token_ids",
    "return_tokens_as_token_ids",
)
EXACT = "logprob_token_ids"


@dataclass(frozen=True)
class Abilities:
    """What a server takes.

    Attributes:
        fields: the optional ones that it takes.
        told_tokens: as `Learnt`.
        takes_lists: whether a request may have several prompts.
        salts: whether a prompt's cached keys and values are kept apart by `cache_salt`.
    """

    fields: frozenset[str] = frozenset(OPTIONAL)
    told_tokens: int | None = None
    takes_lists: bool = True
    salts: bool = False


class Completions:
    """Asks OpenAI's completions. See `Dialect`."""

    def __init__(self, endpoint: HttpEndpoint, model_name: str | None, flops_of: FlopsOf | None) -> None:
        """Prepare to ask.

        Args:
            endpoint: of the server.
            model_name: the model that is asked, of several.
            flops_of: computes a row's floating-point operations; None where the model's sizes are not known.
        """
        self._endpoint = endpoint
        self._model_name = model_name
        self._flops_of = flops_of
        self._model = ""
        self._abilities = Abilities()

    async def describe(self, seconds: float) -> Described:
        """Ask for the models. See `Dialect`."""
        described = await served_model(self._endpoint, self._model_name, seconds)
        self._model = described.model
        self._abilities = replace(self._abilities, salts=described.engine == "vllm")
        return described

    async def token_ids(self, text: str) -> list[int] | None:
        """Ask `/tokenize`, in vLLM's fields or in llama.cpp's. See `Dialect`."""
        for asked in (
            {"model": self._model, "prompt": text},
            {"content": text, "add_special": True},
        ):
            answer = await self._endpoint.post("/tokenize", asked)
            ids = answer.content.get("tokens") if isinstance(answer.content, Mapping) else None
            if answer.is_good and ids and all(isinstance(each, int) for each in ids):
                return list(ids)
        return None

    async def learn(self) -> Learnt:
        """Find out which fields the server takes, and what it answers. See `Dialect`."""
        known = Row(KNOWN, CANDIDATES)
        alone = await self._find_way(known)
        again = await self._again_among_others(known)
        return Learnt(
            self._abilities.told_tokens,
            await self._scores_prompts(),
            alone.timings is not None,
            largest_difference(alone.scores[0], again),
        )

    async def score(self, request: Request) -> Reply | Refusal:
        """Ask a request's prompts. See `Dialect`."""
        exact = self._abilities.told_tokens is None
        rows = [rows_of(prompt, any_candidate=exact) for prompt in request.prompts]
        try:
            found, timings = await self._ask_rows(
                [row for each in rows for row in each], request.id, reuse=request.reuse_prefix
            )
            scores = []
            for prompt, mine in zip(request.prompts, rows, strict=True):
                scores.append(score_of(prompt, mine, found[: len(mine)], self._flops_of))
                found = found[len(mine) :]
        except _RefusedError as error:
            return refused(request.id, error.answer, self._endpoint.address)
        except AnswerError as error:
            return Refusal(request.id, "DATA_LOSS", f"the server's answer cannot be used: {error}", None)
        if timings is not None and len(scores) == 1:
            computed = min(timings.computed, scores[0].logical_tokens)
            scores = [replace(scores[0], computed_tokens=computed, flops=timings.flops)]
        return Reply(request.id, tuple(scores), timings.timing if timings is not None else None, None)

    async def _find_way(self, known: Row) -> _Read:
        """Leave out what the server does not take, until it answers with log-probabilities."""
        why = ""
        for told in (None, *MOST_LIKELY):
            self._abilities = replace(self._abilities, told_tokens=told)
            answer = await self._taken([known])
            if not answer.is_good:
                why = answer.message
                continue
            try:
                read = self._read(answer, [known])
            except AnswerError as error:
                why = str(error)
                continue
            check_logprobs(read.scores[0], str(self._endpoint.address))
            return read
        raise InputError(
            f"{self._endpoint.address} gives no log-probabilities that can be used ({why}): accuracy "
            "cannot be "
            "measured with it"
        )

    async def _taken(self, rows: Sequence[Row]) -> HttpAnswer:
        """Ask, and leave out the optional fields that the server refuses."""
        while True:
            answer = await self._post(rows, "known-prompt", reuse=False)
            if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise RunError(
                    f"{self._endpoint.address} refuses the client: {answer.message}; see --api-key-file"
                )
            if answer.status == HTTPStatus.NOT_FOUND:
                raise InputError(
                    f"{self._endpoint.address} has no {PATH} for {self._model!r}: {answer.message}"
                )
            if (
                answer.status == HTTPStatus.TOO_MANY_REQUESTS
                or answer.status == HTTPStatus.SERVICE_UNAVAILABLE
            ):
                raise StreamLostError(answer.message)
            if answer.is_good or not (left := self._without_refused(answer)):
                return answer
            self._abilities = left

    def _without_refused(self, answer: HttpAnswer) -> Abilities | None:
        """Return the abilities without a field that was refused; None where there is none to leave out."""
        mine = self._abilities
        if EXACT in answer.text and mine.told_tokens is None:
            return None
        taken = [name for name in OPTIONAL if name in mine.fields]
        named = [name for name in taken if name in answer.text]
        if not taken or (not named and "logprobs" in answer.text):
            return None
        return replace(mine, fields=mine.fields - {(named or taken)[0]})

    async def _again_among_others(self, known: Row) -> RowScore:
        """Ask the known prompt in a list with others, or, where the server takes no lists, beside them."""
        rows = [Row(OTHERS[0], CANDIDATES), known, *(Row(each, CANDIDATES) for each in OTHERS[1:])]
        answer = await self._post(rows, "known-prompt-again", reuse=False)
        try:
            if answer.is_good:
                return self._read(answer, rows).scores[1]
        except AnswerError:
            pass
        self._abilities = replace(self._abilities, takes_lists=False)
        answers = await asyncio.gather(
            *(self._post([row], "known-prompt-again", reuse=False) for row in rows)
        )
        try:
            return self._read(answers[1], [known]).scores[0]
        except AnswerError as error:
            raise InputError(
                f"{self._endpoint.address} answers a prompt once, and not again beside others: {error}"
            ) from None

    async def _scores_prompts(self) -> bool:
        row = Row(KNOWN, (), len(KNOWN) - 1)
        answer = await self._post([row], "known-prompt-itself", reuse=False)
        try:
            return answer.is_good and bool(self._read(answer, [row]).scores)
        except AnswerError:
            return False

    async def _ask_rows(
        self, rows: Sequence[Row], id: str, *, reuse: bool
    ) -> tuple[list[RowScore], _Timings | None]:
        """Ask rows, those with candidates and those that are scored themselves apart."""
        kinds = [[row for row in rows if bool(row.scored) is scored] for scored in (False, True)]
        bodies = (
            [[row] for row in rows] if not self._abilities.takes_lists else [each for each in kinds if each]
        )
        answers = await asyncio.gather(*(self._post(body, id, reuse=reuse) for body in bodies))
        for answer in answers:
            if not answer.is_good:
                raise _RefusedError(answer)
        read = [self._read(answer, body, reuse=reuse) for answer, body in zip(answers, bodies, strict=True)]
        found = {
            id_of_row: score
            for body, each in zip(bodies, read, strict=True)
            for id_of_row, score in zip(map(_identity, body), each.scores, strict=True)
        }
        return [found[_identity(row)] for row in rows], read[0].timings if len(read) == 1 else None

    async def _post(self, rows: Sequence[Row], id: str, *, reuse: bool) -> HttpAnswer:
        return await self._endpoint.post(PATH, self._fields(rows, id, reuse=reuse))

    def _fields(self, rows: Sequence[Row], id: str, *, reuse: bool) -> dict[str, Any]:
        """Return the body that asks rows of one kind."""
        optional = {
            # llama.cpp's, and vLLM's: without it nothing that was computed before is used again.
            "cache_prompt": reuse,
            **({} if reuse else {"cache_salt": f"{id}-{uuid.uuid4().hex}"}),
            "repetition_penalty": 1.0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        prompts = [list(row.token_ids) for row in rows]
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": prompts if len(prompts) > 1 else prompts[0],
            "max_tokens": 1,
            "temperature": 0,
            **{name: value for name, value in optional.items() if name in self._abilities.fields},
        }
        if rows[0].scored:
            return {**body, "echo": True, "logprobs": 1}
        if self._abilities.told_tokens is not None:
            return {**body, "logprobs": self._abilities.told_tokens}
        wanted = dict.fromkeys(token for row in rows for token in row.candidate_ids)
        return {**body, "logprobs": 1, EXACT: list(wanted)}

    def _read(self, answer: HttpAnswer, rows: Sequence[Row], *, reuse: bool = False) -> _Read:
        """Read what was answered for rows.

        Raises:
            AnswerError: it is not what was asked for.
        """
        choices = answer.content.get("choices") if isinstance(answer.content, Mapping) else None
        if not isinstance(choices, list) or len(choices) != len(rows):
            raise AnswerError(f"it has not one choice for each of {len(rows)} prompts")
        timings = _timings(answer.content)
        cached = _cached_tokens(answer.content) if len(rows) == 1 else None
        if cached is None and len(rows) == 1 and timings is not None:
            cached = len(rows[0].token_ids) - timings.computed
        if cached is None and len(rows) == 1 and self._keeps_apart(reuse=reuse):
            cached = 0
        by_place = {choice.get("index", place): choice for place, choice in enumerate(map(_object, choices))}
        scores = [
            replace(_row_score(row, _object(by_place.get(place)), self._abilities), cached_tokens=cached)
            for place, row in enumerate(rows)
        ]
        return _Read(scores, timings)

    def _keeps_apart(self, *, reuse: bool) -> bool:
        """Whether vLLM was given a salt of its own for a prompt, so that it used nothing again."""
        return self._abilities.salts and "cache_salt" in self._abilities.fields and not reuse


class _RefusedError(Exception):
    def __init__(self, answer: HttpAnswer) -> None:
        self.answer = answer


@dataclass(frozen=True)
class _Timings:
    """trt-server's own timings of one request of the engine's."""

    timing: Timing
    computed: int
    flops: int


@dataclass(frozen=True)
class _Read:
    scores: list[RowScore]
    timings: _Timings | None


def _identity(row: Row) -> int:
    return id(row)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise AnswerError("a choice is no object")
    return value


def _row_score(row: Row, choice: Mapping[str, Any], abilities: Abilities) -> RowScore:
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
    if abilities.told_tokens is None and None in found:
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
            _Place(_id(token), logprob, {_id(name): _number(each) for name, each in (top or {}).items()})
            for token, logprob, top in zip(
                logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
            )
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnswerError(f"its logprobs are not in OpenAI's form ({error})") from None


def _place_with_ids(place: Mapping[str, Any]) -> _Place:
    told = {each["id"]: _number(each["logprob"]) for each in place["top_logprobs"]}
    return _Place(place["id"], _number(place["logprob"]), told)


def _id(name: str) -> int:
    """Return the id that a token is named by; raise AnswerError where its text names it."""
    if not name.startswith(ID_NAME):
        raise AnswerError(
            f"it names tokens by their texts, like {name!r}, which several tokens may have, not by id"
        )
    return int(name.removeprefix(ID_NAME))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise AnswerError(f"{value!r} is no log-probability")
    return float(value)


def _finite(value: float | None) -> float:
    if value is None:
        raise AnswerError("it gives no log-probability of one of its tokens")
    return _number(value)


def _cached_tokens(content: Mapping[str, Any]) -> int | None:
    """Return how many of the prompt's tokens were not computed, where vLLM or llama.cpp says so."""
    usage, timings = content.get("usage"), content.get("timings")
    details = usage.get("prompt_tokens_details") if isinstance(usage, Mapping) else None
    if isinstance(details, Mapping) and isinstance(cached := details.get("cached_tokens"), int):
        return cached
    if isinstance(timings, Mapping) and isinstance(cached := timings.get("cache_n"), int):
        return cached
    return None


def _timings(content: Mapping[str, Any]) -> _Timings | None:
    """Return trt-server's timings, where all prompts were in one of the engine's requests."""
    found = content.get("timings")
    if not isinstance(found, list) or len(found) != 1 or not isinstance(found[0], Mapping):
        return None
    try:
        stages = {each.name: int(found[0][f"{each.name}_ns"]) for each in fields(Timing)}
        return _Timings(Timing(**stages), int(found[0]["computed_tokens"]), int(found[0]["flops"]))
    except (KeyError, TypeError, ValueError):
        return None
