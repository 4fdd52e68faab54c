"""The Scoring service: the contract's methods over gRPC, unary and on streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server.errors import DrainingError, ScoringError
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.rpc.caller import Callers
from trt_server.rpc.deadline import CallDeadline, Deadline
from trt_server.rpc.encoding import encode_error, encode_model, encode_tokenizer
from trt_server.rpc.replies import Replies
from trt_server.rpc.request_size import returned_id
from trt_server.rpc.scoring import Scoring
from trt_server.rpc.types import Context
from trt_server.threads.background import in_background

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Scoring"].full_name
# Those whose requests are scored.
SCORING_METHODS = frozenset({f"/{SERVICE_NAME}/Score", f"/{SERVICE_NAME}/StreamScore"})


class ScoringService(pb_grpc.ScoringServicer):
    """The contract's methods, on top of what answers a request wherever it comes from.

    They raise ScoringError where they cannot answer; the door makes a status of it.
    """

    def __init__(self, scoring: Scoring, budget: ByteBudget, callers: Callers) -> None:
        """Serve what answers requests.

        Args:
            scoring: Answers them.
            budget: Of the memory of all requests: replies that a stream's caller has not read count too.
            callers: Tells callers apart, who share the engine.
        """
        self._scoring = scoring
        self._budget = budget
        self._callers = callers
        self._draining = asyncio.Event()
        self._tokenizer: pb.Tokenizer | None = None

    def stop_reading(self) -> None:
        """Read no more requests from open streams; they end when what was read is answered."""
        self._draining.set()

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:  # noqa: N802
        """Score the prompts of one request; the contract says which status an error has."""
        return (
            await self._scoring.answer(request, self._callers.of_call(context), CallDeadline(context))
        ).response

    async def StreamScore(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ScoreRequest], context: Context
    ) -> AsyncIterator[pb.StreamScoreResponse]:
        """Score many requests on one stream; the replies come in the order in which they are done."""
        window = asyncio.Semaphore(self._scoring.loaded.served.limits.stream_window)
        with self._budget.take(0) as charge:
            replies = Replies(charge)
            answer = partial(
                self._answer_on_stream, self._callers.of_call(context), CallDeadline(context), replies
            )
            reader = asyncio.create_task(self._read_stream(request_iterator, answer, window, replies))
            try:
                while (reply := await replies.get()) is not None:
                    yield reply
                    replies.sent(reply)
                    window.release()
                await reader
            finally:
                reader.cancel()
        if self._draining.is_set():
            raise DrainingError("the server is draining: ask another one")

    async def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.Model:
        """Tell what is loaded, after measuring the peak once more where the request asks for it."""
        if request.measure_peak:
            await self._scoring.measure_peaks()
        return encode_model(self._scoring.loaded.served)

    async def GetTokenizer(  # noqa: N802
        self,
        request: pb.GetTokenizerRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.Tokenizer:
        """Send the tokenizer's files, and a sample of its ids."""
        loaded = self._scoring.loaded
        if self._tokenizer is None:
            # Once for all callers: its files may take megabytes.
            self._tokenizer = await in_background(encode_tokenizer, loaded.served.tokenizer)
        return self._tokenizer

    async def _read_stream(
        self,
        request_iterator: AsyncIterator[pb.ScoreRequest],
        answer: Callable[[pb.ScoreRequest], Coroutine[Any, Any, None]],
        window: asyncio.Semaphore,
        replies: Replies,
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
            replies.end()

    async def _answer_on_stream(
        self,
        caller: str,
        deadline: Deadline,
        replies: Replies,
        request: pb.ScoreRequest,
    ) -> None:
        # Of an id that is longer than one may be, enough to know it by.
        reply = pb.StreamScoreResponse(id=returned_id(request.id))
        try:
            reply.response.CopyFrom((await self._scoring.answer(request, caller, deadline)).response)
        except ScoringError as error:
            reply.error.CopyFrom(encode_error(error))
        replies.put(reply)
