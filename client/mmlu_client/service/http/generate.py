"""SGLang's `/generate`, which tells the log-probabilities of chosen tokens: `token_ids_logprob`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from mmlu_client.errors import RunError, StreamLostError
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
from mmlu_client.service.http.refusal import raise_if_refused, refused
from mmlu_client.service.http.row import (
    AnswerError,
    Row,
    RowScore,
    ToldToken,
    logprob_of,
    rows_of,
    scores_of,
    token_of,
    whole_number,
)
from mmlu_client.service.messages import Refusal, Reply, Request
from mmlu_client.service.model_config import FlopsOf
from mmlu_client.service.server_connection import AwayError

PATH = "/generate"
# Newer servers have the first of each.
MODEL_PATHS, SERVER_PATHS = ("/model_info", "/get_model_info"), ("/server_info", "/get_server_info")
PRECISIONS = {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
GENERATED = 1


class Generate:
    """Asks SGLang. See `Dialect`."""

    def __init__(self, endpoint: HttpEndpoint, flops_of: FlopsOf | None) -> None:
        """Prepare to ask.

        Args:
            endpoint: of the server.
            flops_of: computes a row's floating-point operations; None where the model's sizes are not known.
        """
        self._endpoint = endpoint
        self._flops_of = flops_of
        self._model = ""

    async def describe(self, seconds: float) -> Described:
        """Ask for the model, and for the server's settings where it tells them. See `Dialect`."""
        model = await self._first(MODEL_PATHS, seconds)
        if model is None or not isinstance(model.get("model_path"), str):
            raise RunError(f"{self._endpoint.address} has no {MODEL_PATHS[0]}: it is no SGLang")
        server = await self._first(SERVER_PATHS, seconds) or {}
        named = server.get("served_model_name")
        self._model = named if isinstance(named, str) and named else model["model_path"]
        longest = server.get("context_length")
        if not isinstance(longest, int):
            longest = await self._longest_by_models(seconds)
        return Described(
            engine="sglang",
            version=str(server.get("version") or ""),
            model=self._model,
            root=model["model_path"],
            precision=PRECISIONS.get(str(server.get("dtype")), ""),
            max_prompt_tokens=longest - GENERATED if isinstance(longest, int) else None,
        )

    async def token_ids(self, text: str, seconds: float) -> list[int] | None:
        """Ask `/tokenize`. See `Dialect`."""
        answer = await self._endpoint.post("/tokenize", {"model": self._model, "prompt": text}, seconds)
        ids = answer.content.get("tokens") if isinstance(answer.content, Mapping) else None
        if answer.is_good and ids and all(isinstance(each, int) for each in ids):
            return list(ids)
        return None

    async def learn(self, seconds: float) -> Learnt:
        """Ask the known prompt alone, and again among others. See `Dialect`."""
        try:
            alone = (await self._known([KNOWN], seconds))[0]
            again = (await self._known(KNOWN_AMONG_OTHERS, seconds))[PLACE]
        except AnswerError as error:
            raise no_logprobs(str(self._endpoint.address), error) from None
        check_logprobs(alone, str(self._endpoint.address))
        return Learnt(None, await self._scores_prompts(seconds), False, largest_difference(alone, again))

    async def score(self, request: Request) -> Reply | Refusal:
        """Ask a request's prompts. See `Dialect`."""
        rows = [rows_of(prompt, any_candidate=True) for prompt in request.prompts]
        flat = [row for each in rows for row in each]
        answer = await self._post(flat, request.id, reuse=request.reuse_prefix)
        if not answer.is_good:
            return refused(request.id, answer, self._endpoint.address)
        try:
            scores = scores_of(request.prompts, rows, self._read(answer, flat), self._flops_of)
        except AnswerError as error:
            return Refusal(request.id, "DATA_LOSS", f"the server's answer cannot be used: {error}", None)
        return Reply(request.id, tuple(scores), None, None)

    async def _known(self, rows: Sequence[Row], seconds: float) -> list[RowScore]:
        answer = await self._post(rows, "known-prompt", reuse=False, seconds=seconds)
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise StreamLostError(answer.message)
        if not answer.is_good:
            raise AnswerError(answer.message)
        return self._read(answer, rows)

    async def _scores_prompts(self, seconds: float) -> bool:
        try:
            return bool(await self._known([KNOWN_ITSELF], seconds))
        except AnswerError:
            return False

    async def _post(
        self, rows: Sequence[Row], id: str, *, reuse: bool, seconds: float | None = None
    ) -> HttpAnswer:
        salts = [f"{id}-{place}-{uuid.uuid4().hex}" for place in range(len(rows))]
        body = {
            "input_ids": [list(row.token_ids) for row in rows],
            "sampling_params": {"max_new_tokens": 1, "temperature": 0, "ignore_eos": True},
            "return_logprob": True,
            # From the first token on where a row's own are scored: what a later start tells of its first
            # differs.
            "logprob_start_len": [0 if row.scored else -1 for row in rows],
            "top_logprobs_num": [1] * len(rows),
            "token_ids_logprob": [list(row.candidate_ids) or None for row in rows],
            # Without it what an earlier prompt left in the cache is used again.
            **({} if reuse else {"cache_salt": salts}),
        }
        return await self._endpoint.post(PATH, body, seconds)

    def _read(self, answer: HttpAnswer, rows: Sequence[Row]) -> list[RowScore]:
        """Read what was answered for rows; raise AnswerError where it is not what was asked for."""
        found = answer.content
        if not isinstance(found, list) or len(found) != len(rows):
            raise AnswerError(f"it has not one answer for each of {len(rows)} prompts")
        return [_row_score(row, each) for row, each in zip(rows, found, strict=True)]

    async def _first(self, paths: Sequence[str], seconds: float) -> Mapping[str, Any] | None:
        """Return the object at the first of these paths that has one."""
        for path in paths:
            answer = await self._endpoint.get(path, seconds)
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise AwayError(f"it is there and not ready: {answer.message}")
            raise_if_refused(answer, self._endpoint.address)
            if answer.is_good and isinstance(answer.content, Mapping):
                return answer.content
        return None

    async def _longest_by_models(self, seconds: float) -> int | None:
        answer = await self._endpoint.get("/v1/models", seconds)
        cards = answer.content.get("data") if isinstance(answer.content, Mapping) else None
        card = cards[0] if isinstance(cards, list) and cards and isinstance(cards[0], Mapping) else {}
        longest = card.get("max_model_len")
        return longest if isinstance(longest, int) else None


def _row_score(row: Row, answer: Any) -> RowScore:
    meta = answer.get("meta_info") if isinstance(answer, Mapping) else None
    if not isinstance(meta, Mapping):
        raise AnswerError("no meta_info in an answer")
    known = whole_number(meta.get("cached_tokens"), len(row.token_ids))
    try:
        if row.scored:
            return _scored(row, meta, known)
        generated = _token(meta["output_token_logprobs"][0])
        told = dict(map(_token, meta["output_token_ids_logprobs"][0]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise AnswerError(f"its log-probabilities are not in SGLang's form ({error!r})") from None
    missing = [token for token in row.candidate_ids if token not in told]
    if missing:
        raise AnswerError(f"no log-probabilities of the tokens {missing}, which were asked for")
    return RowScore(
        logprobs=tuple(told[token] for token in row.candidate_ids), top=generated, cached_tokens=known
    )


def _scored(row: Row, meta: Mapping[str, Any], cached: int | None) -> RowScore:
    own, tops = meta["input_token_logprobs"], meta["input_top_logprobs"]
    if [each[1] for each in own] != list(row.token_ids) or len(tops) != len(own):
        raise AnswerError("it does not give the prompt's own tokens")
    first = len(own) - row.scored
    scored = [_token(each) for each in own[first:]]
    return RowScore(
        own_logprobs=tuple(logprob for _, logprob in scored),
        own_top=tuple(_top(mine, each) for mine, each in zip(scored, tops[first:], strict=True)),
        cached_tokens=cached,
    )


def _top(mine: ToldToken, told: Sequence[Any]) -> ToldToken:
    """Return the most likely token in a place."""
    return max(map(_token, told), key=lambda each: each[1], default=mine)


def _token(entry: Sequence[Any]) -> ToldToken:
    """Read `[logprob, id, text]`."""
    return token_of(entry[1]), logprob_of(entry[0])
