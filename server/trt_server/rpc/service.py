"""The Scoring service: takes requests from gRPC, puts them into an engine's queue and answers them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc import aio
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server.errors import DrainingError, NoReferenceError, ScoringError
from trt_server.loading.loading import Loaded, LoadedEngine
from trt_server.observe.metrics import Metrics
from trt_server.rpc.codec import (
    RequestDecoder,
    encode_error,
    encode_model,
    encode_response,
    encode_tokenizer,
    has_text,
)
from trt_server.rpc.deadline import Deadline
from trt_server.scheduling.request import ScoringRequest

log = logging.getLogger(__name__)

Context = aio.ServicerContext[Message, Message]


class NotLoadedError(ScoringError):
    """The engine is still being loaded."""

    status = grpc.StatusCode.UNAVAILABLE


class ScoringService(pb_grpc.ScoringServicer):
    """Answers UNAVAILABLE until `open` is called, and again, for new work, once the queue drains."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._maybe_loaded: Loaded | None = None
        self._unanswered = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = asyncio.Event()
        self._measuring = asyncio.Lock()

    def open(self, loaded: Loaded) -> None:
        """Take requests from now on."""
        served = loaded.served
        geometry = served.geometry
        self._decoder = RequestDecoder(
            geometry.vocabulary_size, geometry.max_positions, served.limits, served.tokenizer
        )
        self._maybe_loaded = loaded

    def stop_reading(self) -> None:
        """Read no more requests from open streams; they end when what was read is answered."""
        self._draining.set()

    async def answered(self) -> None:
        """Return when nothing is unanswered."""
        await self._idle.wait()

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        """Score the prompts of one request; the contract says which status an error has."""
        outcome = await self._account(request, Deadline(context))
        if isinstance(outcome, Status):
            await _abort(context, outcome)
        return outcome

    async def StreamScore(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ScoreRequest], context: Context
    ) -> AsyncIterator[pb.StreamScoreResponse]:
        """Score many requests on one stream; the replies come in the order in which they are done."""
        limits = (await self._loaded_or_abort(context)).served.limits
        replies: asyncio.Queue[pb.StreamScoreResponse | None] = asyncio.Queue()
        window = asyncio.Semaphore(limits.stream_window)
        reader = asyncio.create_task(self._read_stream(request_iterator, Deadline(context), window, replies))
        try:
            while (reply := await replies.get()) is not None:
                yield reply
                window.release()
            await reader
        except ScoringError as error:
            await _abort(context, encode_error(error))
        finally:
            reader.cancel()
        if self._draining.is_set():
            await _abort(context, encode_error(DrainingError("the server is draining: ask another one")))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:  # noqa: N802
        """Tell what is loaded, after measuring the peak once more where the request asks for it."""
        await self._loaded_or_abort(context)
        if request.measure_peak:
            await self._measure_peaks()
        return encode_model(self._loaded().served)

    async def GetTokenizer(  # noqa: N802
        self,
        request: pb.GetTokenizerRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.Tokenizer:
        """Send the tokenizer's files, and a sample of its ids."""
        loaded = await self._loaded_or_abort(context)
        try:
            return await asyncio.to_thread(encode_tokenizer, loaded.served.tokenizer)
        except ScoringError as error:
            await _abort(context, encode_error(error))

    async def _measure_peaks(self) -> None:
        # One after the other: two engines, or two callers' turns, would take each other's cores.
        async with self._measuring:
            self._maybe_loaded = await self._loaded().with_peaks_measured_again()
            for engine in self._maybe_loaded.engines:
                self._metrics.set_peak(engine.description, [device.label for device in engine.devices])

    async def _read_stream(
        self,
        request_iterator: AsyncIterator[pb.ScoreRequest],
        deadline: Deadline,
        window: asyncio.Semaphore,
        replies: asyncio.Queue[pb.StreamScoreResponse | None],
    ) -> None:
        """Answer a stream until it ends or the server drains.

        Args:
            request_iterator: The stream's requests.
            deadline: The stream's.
            window: Has a permit for each request that may be unanswered.
            replies: Gets the replies, and None after the last.

        Raises:
            InvalidRequestError: Bytes on the stream are no request.
        """
        answering: set[asyncio.Task[None]] = set()

        async def read() -> None:
            while True:
                await window.acquire()
                request = await anext(request_iterator, None)
                if request is None:
                    return
                task = asyncio.create_task(self._answer_on_stream(request, deadline, replies))
                answering.add(task)
                task.add_done_callback(answering.discard)

        reading = asyncio.create_task(read())
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({reading, draining}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await asyncio.gather(*answering)
                reading.result()
            else:
                reading.cancel()
                await asyncio.gather(*answering)
        finally:
            for task in (reading, draining, *answering):
                task.cancel()
            replies.put_nowait(None)

    async def _answer_on_stream(
        self,
        request: pb.ScoreRequest,
        deadline: Deadline,
        replies: asyncio.Queue[pb.StreamScoreResponse | None],
    ) -> None:
        outcome = await self._account(request, deadline)
        reply = pb.StreamScoreResponse(id=request.id)
        if isinstance(outcome, Status):
            reply.error.CopyFrom(outcome)
        else:
            reply.response.CopyFrom(outcome)
        replies.put_nowait(reply)

    async def _account(self, request: pb.ScoreRequest, deadline: Deadline) -> pb.ScoreResponse | Status:
        """Answer a request, count it, and never let an error through that has no status."""
        arrived_ns = time.perf_counter_ns()
        self._unanswered += 1
        self._idle.clear()
        code = grpc.StatusCode.OK
        try:
            return await self._answer(request, arrived_ns)
        except ScoringError as error:
            code = error.status
            return encode_error(error)
        except asyncio.CancelledError:
            code = grpc.StatusCode.DEADLINE_EXCEEDED if deadline.passed else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            log.exception("a request failed in the service")
            code = grpc.StatusCode.INTERNAL
            return encode_error(ScoringError(f"the server failed on this request: {error}"))
        finally:
            self._metrics.count_request(code.name)
            log.debug(
                "request",
                extra={
                    "request_id": request.id,
                    "code": code.name,
                    "prompts": len(request.prompts),
                    "milliseconds": (time.perf_counter_ns() - arrived_ns) / 1e6,
                },
            )
            self._unanswered -= 1
            if not self._unanswered:
                self._idle.set()

    async def _answer(self, request: pb.ScoreRequest, arrived_ns: int) -> pb.ScoreResponse:
        loaded = self._loaded()
        engine = _engine(loaded, request.engine)
        self._decoder.check_size(request)
        scoring = await _decode(self._decoder, request, engine)
        engine.queue.put(scoring)
        result = await scoring.result
        total_ns = time.perf_counter_ns() - arrived_ns
        response = encode_response(request.id, scoring.prompts, result, loaded.served.geometry, total_ns)
        self._metrics.observe(engine.description.name, engine.devices[result.engine].label, response)
        return response

    def _loaded(self) -> Loaded:
        if self._maybe_loaded is None:
            raise NotLoadedError("the engine is being loaded: wait for grpc.health.v1 to say SERVING")
        return self._maybe_loaded

    async def _loaded_or_abort(self, context: Context) -> Loaded:
        try:
            return self._loaded()
        except NotLoadedError as error:
            await _abort(context, encode_error(error))


def _engine(loaded: Loaded, role: int) -> LoadedEngine:
    """Return the engine that has this EngineRole.

    Raises:
        NoReferenceError: The reference is asked for, and none is loaded.
    """
    if role != pb.ENGINE_ROLE_REFERENCE:
        return loaded.compiled
    if loaded.reference is None:
        raise NoReferenceError("no reference engine is loaded: start the server with --reference torch")
    return loaded.reference


async def _decode(decoder: RequestDecoder, request: pb.ScoreRequest, engine: LoadedEngine) -> ScoringRequest:
    max_row_tokens = decoder.limits.max_prompt_tokens
    if not has_text(request):
        return ScoringRequest(decoder.decode(request, engine.prompt_limits), max_row_tokens)
    start = time.perf_counter_ns()
    with engine.queue.expecting():
        prompts = await asyncio.to_thread(decoder.decode, request, engine.prompt_limits)
    return ScoringRequest(prompts, max_row_tokens, time.perf_counter_ns() - start)


async def _abort(context: Context, status: Status) -> NoReturn:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, status.message, trailing_metadata=metadata)
    raise AssertionError("abort always raises")
