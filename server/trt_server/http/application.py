"""The application: which path is answered how."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from scoring.v1 import scoring_pb2 as pb

from trt_server.errors import NoTokenizerError, NotServingError, ScoringError
from trt_server.http.body import BodyReader, convert
from trt_server.http.completions_reply import Heading, completions_reply, reply_memory
from trt_server.http.completions_request import CompletionsRequest, completions_request, score_requests
from trt_server.http.errors import (
    RequestError,
    error_response,
    errors_as_objects,
    request_error,
    status_of,
)
from trt_server.http.expect import expect
from trt_server.http.header import header_text
from trt_server.http.models import check_model, model_card
from trt_server.http.source import HttpSource
from trt_server.http.tokenizer_endpoints import (
    DetokenizeRequest,
    TokenizeRequest,
    detokenized,
    tokenize_request,
    tokenized,
)
from trt_server.loading.loading import Loaded
from trt_server.loading.served_model import Limits, ServedModel
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.observe.request_metrics import RequestMetrics
from trt_server.request_memory.byte_budget import Charge
from trt_server.rpc.caller import Callers
from trt_server.rpc.scoring import Answer, Scoring
from trt_server.threads.step_threads import StepThreads


@dataclass(frozen=True)
class _Asked:
    """A request for completions that was read.

    Attributes:
        request: In the names of its body.
        heading: Of its reply.
        scores: The same in the contract's messages.
        source: Who asks, and how long it waits.
        loaded: The model that is asked, and its engines.
    """

    request: CompletionsRequest
    heading: Heading
    scores: Sequence[pb.ScoreRequest]
    source: HttpSource
    loaded: Loaded


class Application:
    """Answers each path."""

    def __init__(
        self,
        scoring: Scoring,
        is_serving: Callable[[], bool],
        bodies: BodyReader,
        threads: StepThreads,
        callers: Callers,
        metrics: RequestMetrics,
        admit: Sequence[Middleware] = (),
    ) -> None:
        """Answer on top of the service.

        Args:
            scoring: Answers requests in the contract's messages.
            is_serving: Whether the server takes new work.
            bodies: Reads those of requests.
            threads: For the tokenizer, and for replies.
            callers: Tells callers apart.
            metrics: Count the requests for completions that are refused before they are scored.
            admit: What a request has to pass before it is answered.
        """
        self._scoring = scoring
        self._is_serving = is_serving
        self._bodies = bodies
        self._threads = threads
        self._callers = callers
        self._metrics = metrics
        self._admit = admit
        self._started = int(time.time())

    def web_application(self, max_body_bytes: int) -> web.Application:
        """Return it for aiohttp to serve.

        Args:
            max_body_bytes: Of a request.
        """
        application = web.Application(
            middlewares=[errors_as_objects, *self._admit], client_max_size=max_body_bytes
        )
        application.add_routes([
            web.post("/v1/completions", self._completions, expect_handler=expect),
            web.get("/v1/models", self._models, expect_handler=expect),
            web.get("/v1/models/{model:.+}", self._model, expect_handler=expect),
            web.post("/tokenize", self._tokenize, expect_handler=expect),
            web.post("/detokenize", self._detokenize, expect_handler=expect),
            web.get("/tokenizer_info", self._tokenizer_info, expect_handler=expect),
            web.get("/health", self._health, expect_handler=expect),
        ])  # fmt: skip
        return application

    async def _completions(self, http_request: web.Request) -> web.Response:
        with self._bodies.charge() as charge:
            try:
                asked = await self._asked(http_request, charge)
            except BaseException as error:
                if (status := status_of(error)) is not None:
                    self._metrics.count(status)
                raise

            def keep(answer: Answer) -> Answer:
                charge.grow(reply_memory(asked.request, answer))
                return answer

            limits = asked.loaded.served.limits
            answers = await self._answers(asked.scores, asked.source, limits, keep)
            return await self._threads.run(_completions_response, asked, answers)

    async def _asked(self, http_request: web.Request, charge: Charge) -> _Asked:
        """Read a request for completions.

        Raises:
            RequestError: It is wrong.
            ScoringError: It cannot be answered at present.
        """
        loaded = self._scoring.loaded
        body = await self._bodies.read_object(http_request, charge)
        request = await self._bodies.made(body.is_large, completions_request, body.fields)
        check_model(loaded.served, request.model)
        await self._threads.run(_check_tokenizer, loaded.served.tokenizer)
        name = request.request_id or header_text(http_request, "X-Request-Id") or uuid.uuid4().hex
        heading = Heading(f"cmpl-{name}", int(time.time()), loaded.served.id)
        scores = await self._bodies.made(
            body.is_large, score_requests, request, heading.id, loaded.served.limits.max_batch_size
        )
        return _Asked(request, heading, scores, HttpSource.of(http_request, self._callers), loaded)

    async def _answers(
        self,
        requests: Sequence[pb.ScoreRequest],
        source: HttpSource,
        limits: Limits,
        keep: Callable[[Answer], Answer],
    ) -> list[Answer]:
        """Answer all requests, or none where one fails.

        Args:
            requests: Those of one caller.
            source: Who that is, and how long it waits.
            limits: Of the server: prompts of each request but the last, and how many are unanswered at once.
            keep: Told each answer as it comes, which is kept until the last of them.
        """
        permits = asyncio.Semaphore(limits.stream_window)

        async def answer(number: int, request: pb.ScoreRequest) -> Answer:
            async with permits:
                try:
                    return keep(await self._scoring.answer(request, source.caller, source.deadline))
                except ScoringError as error:
                    first = number * limits.max_batch_size
                    where = f"counted from prompt {first} on: " if first else ""
                    raise request_error(error, where) from error

        tasks = [asyncio.create_task(answer(*each)) for each in enumerate(requests)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [model_card(self._scoring.loaded.served, self._started)]})

    async def _model(self, http_request: web.Request) -> web.Response:
        served = self._scoring.loaded.served
        check_model(served, http_request.match_info["model"])
        return _json(model_card(served, self._started))

    async def _tokenize(self, http_request: web.Request) -> web.Response:
        served = self._scoring.loaded.served
        with self._bodies.charge() as charge:
            body = await self._bodies.read_object(http_request, charge)
            request = tokenize_request(body.fields)
            check_model(served, request.model)
            return await self._threads.run(_tokenize_response, request, served)

    async def _detokenize(self, http_request: web.Request) -> web.Response:
        served = self._scoring.loaded.served
        with self._bodies.charge() as charge:
            body = await self._bodies.read_object(http_request, charge)
            request = await self._bodies.made(body.is_large, convert, body.fields, DetokenizeRequest)
            check_model(served, request.model)
            return await self._threads.run(_detokenize_response, request, served)

    async def _tokenizer_info(self, _: web.Request) -> web.Response:
        tokenizer = self._scoring.loaded.served.tokenizer
        return _json(await self._threads.run(lambda: tokenizer.settings))

    async def _health(self, _: web.Request) -> web.Response:
        if self._is_serving():
            return web.Response()
        return error_response(request_error(NotServingError("the server is loading, draining or has failed")))


def _check_tokenizer(tokenizer: CheckpointTokenizer) -> None:
    """Check, before anything is computed, that there is a text to reply.

    Raises:
        RequestError: The model has no tokenizer that loads.
    """
    try:
        tokenizer.decoder  # noqa: B018
    except NoTokenizerError as error:
        raise RequestError(
            f"a completion is text, and there is none without a tokenizer: ask over gRPC ({error})",
            code="no_tokenizer",
        ) from None


def _completions_response(asked: _Asked, answers: Sequence[Answer]) -> web.Response:
    return _json(completions_reply(asked.request, answers, asked.loaded.served.tokenizer, asked.heading))


def _tokenize_response(request: TokenizeRequest, served: ServedModel) -> web.Response:
    return _json(tokenized(request, served.tokenizer, served.limits))


def _detokenize_response(request: DetokenizeRequest, served: ServedModel) -> web.Response:
    return _json(detokenized(request, served.tokenizer))


def _json(content: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), content_type="application/json")
