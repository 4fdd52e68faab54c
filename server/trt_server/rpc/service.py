"""The Scoring service: the contract's methods over gRPC, unary and on streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc import aio
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server.errors import DrainingError, ScoringError
from trt_server.loading.loading import Loaded
from trt_server.rpc.caller import caller_of
from trt_server.rpc.codec import encode_error, encode_model, encode_tokenizer
from trt_server.rpc.deadline import CallDeadline, Deadline
from trt_server.rpc.scoring import NotLoadedError, Scoring

Context = aio.ServicerContext[Message, Message]


class ScoringService(pb_grpc.ScoringServicer):
    """The contract's methods, on top of what answers a request wherever it comes from."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._draining = asyncio.Event()

    def stop_reading(self) -> None:
        """Read no more requests from open streams; they end when what was read is answered."""
        self._draining.set()

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        """Score the prompts of one request; the contract says which status an error has."""
        try:
            return (await self._scoring.answer(request, caller_of(context), CallDeadline(context))).response
        except ScoringError as error:
            await _abort(context, encode_error(error))

    async def StreamScore(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ScoreRequest], context: Context
    ) -> AsyncIterator[pb.StreamScoreResponse]:
        """Score many requests on one stream; the replies come in the order in which they are done."""
        limits = (await self._loaded_or_abort(context)).served.limits
        replies: asyncio.Queue[pb.StreamScoreResponse | None] = asyncio.Queue()
        window = asyncio.Semaphore(limits.stream_window)
        answer = partial(self._answer_on_stream, caller_of(context), CallDeadline(context), replies)
        reader = asyncio.create_task(self._read_stream(request_iterator, answer, window, replies))
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
            await self._scoring.measure_peaks()
        return encode_model(self._scoring.loaded.served)

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

    async def _read_stream(
        self,
        request_iterator: AsyncIterator[pb.ScoreRequest],
        answer: Callable[[pb.ScoreRequest], Coroutine[Any, Any, None]],
        window: asyncio.Semaphore,
        replies: asyncio.Queue[pb.StreamScoreResponse | None],
    ) -> None:
        """Answer a stream until it ends or the server drains.

        Args:
            request_iterator: The stream's requests.
            answer: Puts the reply to a request among the replies.
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
                task = asyncio.create_task(answer(request))
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
        caller: str,
        deadline: Deadline,
        replies: asyncio.Queue[pb.StreamScoreResponse | None],
        request: pb.ScoreRequest,
    ) -> None:
        reply = pb.StreamScoreResponse(id=request.id)
        try:
            reply.response.CopyFrom((await self._scoring.answer(request, caller, deadline)).response)
        except ScoringError as error:
            reply.error.CopyFrom(encode_error(error))
        replies.put_nowait(reply)

    async def _loaded_or_abort(self, context: Context) -> Loaded:
        try:
            return self._scoring.loaded
        except NotLoadedError as error:
            await _abort(context, encode_error(error))


async def _abort(context: Context, status: Status) -> NoReturn:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, status.message, trailing_metadata=metadata)
    raise AssertionError("abort always raises")
