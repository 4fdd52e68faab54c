"""OpenAI's `/v1/completions`, with the fields by which vLLM, and trt-server, tell chosen tokens exactly."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from mmlu_client.errors import InputError, StreamLostError
from mmlu_client.service.http.completions_answer import EngineTimings, Read, read_answer
from mmlu_client.service.http.dialect import Described, Learnt
from mmlu_client.service.http.endpoint import HttpAnswer, HttpEndpoint
from mmlu_client.service.http.known_prompt import (
    KNOWN,
    KNOWN_AMONG_OTHERS,
    KNOWN_ITSELF,
    PLACE,
    check_logprobs,
    largest_difference,
    no_logprobs,
)
from mmlu_client.service.http.models import served_model
from mmlu_client.service.http.refusal import raise_if_refused, refused
from mmlu_client.service.http.row import AnswerError, Row, RowScore, rows_of, scores_of
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model_config import FlopsOf

PATH = "/v1/completions"
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

    async def token_ids(self, text: str, seconds: float) -> list[int] | None:
        """Ask `/tokenize`, in vLLM's fields or in llama.cpp's. See `Dialect`."""
        for asked in (
            {"model": self._model, "prompt": text},
            {"content": text, "add_special": True},
        ):
            answer = await self._endpoint.post("/tokenize", asked, seconds)
            ids = answer.content.get("tokens") if isinstance(answer.content, Mapping) else None
            if answer.is_good and ids and all(isinstance(each, int) for each in ids):
                return list(ids)
        return None

    async def learn(self, seconds: float) -> Learnt:
        """Find out which fields the server takes, and what it answers. See `Dialect`."""
        alone = await self._find_way(seconds)
        again = await self._again_among_others(seconds)
        return Learnt(
            self._abilities.told_tokens,
            await self._scores_prompts(seconds),
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
            scores = scores_of(request.prompts, rows, found, self._flops_of)
        except _RefusedError as error:
            return refused(request.id, error.answer, self._endpoint.address)
        except AnswerError as error:
            return Refusal(request.id, "DATA_LOSS", f"the server's answer cannot be used: {error}", None)
        if timings is not None and len(scores) == 1:
            computed = min(timings.computed, scores[0].logical_tokens)
            scores = [replace(scores[0], computed_tokens=computed, flops=timings.flops)]
        return Reply(request.id, tuple(scores), timings.timing if timings is not None else None, None)

    async def _find_way(self, seconds: float) -> Read:
        """Leave out what the server does not take, until it answers with log-probabilities."""
        why = ""
        for told in (None, *MOST_LIKELY):
            self._abilities = replace(self._abilities, fields=frozenset(OPTIONAL), told_tokens=told)
            answer = await self._taken([KNOWN], seconds)
            if not answer.is_good:
                why = answer.message
                continue
            try:
                read = self._read(answer, [KNOWN])
            except AnswerError as error:
                why = str(error)
                continue
            check_logprobs(read.scores[0], str(self._endpoint.address))
            return read
        raise no_logprobs(str(self._endpoint.address), why)

    async def _taken(self, rows: Sequence[Row], seconds: float) -> HttpAnswer:
        """Ask, and leave out the optional fields that the server refuses."""
        while True:
            answer = await self._post(rows, "known-prompt", reuse=False, seconds=seconds)
            raise_if_refused(answer, self._endpoint.address)
            if answer.status == HTTPStatus.NOT_FOUND:
                raise InputError(
                    f"{self._endpoint.address} has no {PATH} for {self._model!r}: {answer.message}"
                )
            if answer.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
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

    async def _again_among_others(self, seconds: float) -> RowScore:
        """Ask the known prompt in a list with others, or, where the server takes no lists, beside them."""
        rows = KNOWN_AMONG_OTHERS
        answer = await self._post(rows, "known-prompt-again", reuse=False, seconds=seconds)
        try:
            if answer.is_good:
                return self._read(answer, rows).scores[PLACE]
        except AnswerError:
            pass
        self._abilities = replace(self._abilities, takes_lists=False)
        answers = await asyncio.gather(
            *(self._post([row], "known-prompt-again", reuse=False, seconds=seconds) for row in rows)
        )
        try:
            return self._read(answers[PLACE], [KNOWN]).scores[0]
        except AnswerError as error:
            raise InputError(
                f"{self._endpoint.address} answers a prompt once, and not again beside others: {error}"
            ) from None

    async def _scores_prompts(self, seconds: float) -> bool:
        answer = await self._post([KNOWN_ITSELF], "known-prompt-itself", reuse=False, seconds=seconds)
        try:
            return answer.is_good and bool(self._read(answer, [KNOWN_ITSELF]).scores)
        except AnswerError:
            return False

    async def _ask_rows(
        self, rows: Sequence[Row], name: str, *, reuse: bool
    ) -> tuple[list[RowScore], EngineTimings | None]:
        """Ask rows, those with candidates and those that are scored themselves apart."""
        kinds = [[row for row in rows if bool(row.scored) is scored] for scored in (False, True)]
        bodies = (
            [[row] for row in rows] if not self._abilities.takes_lists else [each for each in kinds if each]
        )
        answers = await asyncio.gather(*(self._post(body, name, reuse=reuse) for body in bodies))
        for answer in answers:
            if not answer.is_good:
                raise _RefusedError(answer)
        read = [self._read(answer, body, reuse=reuse) for answer, body in zip(answers, bodies, strict=True)]
        found = {
            id(row): score
            for body, each in zip(bodies, read, strict=True)
            for row, score in zip(body, each.scores, strict=True)
        }
        return [found[id(row)] for row in rows], read[0].timings if len(read) == 1 else None

    async def _post(
        self, rows: Sequence[Row], id: str, *, reuse: bool, seconds: float | None = None
    ) -> HttpAnswer:
        return await self._endpoint.post(PATH, self._fields(rows, id, reuse=reuse), seconds)

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

    def _read(self, answer: HttpAnswer, rows: Sequence[Row], *, reuse: bool = False) -> Read:
        """Read what was answered for rows; raise AnswerError where it is not what was asked for."""
        return read_answer(
            answer.content,
            rows,
            any_candidate=self._abilities.told_tokens is None,
            keeps_apart=self._keeps_apart(reuse=reuse),
        )

    def _keeps_apart(self, *, reuse: bool) -> bool:
        """Whether vLLM was given a salt of its own for a prompt, so that it used nothing again."""
        return self._abilities.salts and "cache_salt" in self._abilities.fields and not reuse


class _RefusedError(Exception):
    def __init__(self, answer: HttpAnswer) -> None:
        self.answer = answer
