"""The door that every gRPC call comes in by, whichever its service.

Its messages are received within bounds and parsed here, large ones beside the event loop. Whatever is raised
behind it, the caller gets a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from trt_server.errors import InvalidRequestError, ScoringError
from trt_server.observe.request_metrics import RequestMetrics
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.request_memory.cost import LARGE_BYTES, REQUEST_BYTE_MEMORY
from trt_server.rpc.abort import abort, scoring_error
from trt_server.rpc.receiving import Receiving
from trt_server.rpc.types import AnswerByWriting, AnswerOne, AnswerStream, AsyncHandler, Context, Handler
from trt_server.status import Status
from trt_server.threads.step_threads import StepThreads

# Within so long gRPC ends a call whose message it has refused.
_REFUSED_SECONDS = 0.5


@dataclass(frozen=True)
class _Method:
    """A method of one of the services.

    Attributes:
        handler: The service's own.
        scores: Whether its requests are scored.
    """

    handler: AsyncHandler
    scores: bool


class Door(aio.ServerInterceptor):
    """Receives, parses, and answers with a status where anything goes wrong."""

    def __init__(
        self,
        scoring_methods: frozenset[str],
        budget: ByteBudget,
        receiving: Receiving,
        receiving_small: Receiving,
        threads: StepThreads,
        requests: RequestMetrics,
    ) -> None:
        """Stand before all services of a server.

        Args:
            scoring_methods: The paths of those methods whose requests are scored: they alone take large
                messages, and their calls that end here are counted.
            budget: Of the bytes of requests.
            receiving: Receives them.
            receiving_small: Receives those of all other methods, so that a flood of requests does not keep a
                health check waiting.
            threads: For large ones.
            requests: Count.
        """
        self._scoring_methods = scoring_methods
        self._budget = budget
        self._receiving = receiving
        self._receiving_small = receiving_small
        self._threads = threads
        self._requests = requests

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return a handler that has the door before the method's own; None: there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = _Method(cast(AsyncHandler, handler), handler_call_details.method in self._scoring_methods)
        if (answer_stream := method.handler.stream_stream) is not None:
            return self._stream_handler(method, answer_stream)
        if (write := method.handler.unary_stream) is not None:
            return self._watch_handler(method, write)
        answer_one = method.handler.unary_unary
        assert answer_one is not None
        return self._unary_handler(method, answer_one)

    def _unary_handler(self, method: _Method, answer_one: AnswerOne) -> Handler:
        # As a method with a stream of requests, which may choose when it receives the only one.
        async def answer(_: object, context: Context) -> bytes:
            try:
                return await self._reply(method, answer_one, context)
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_unary_rpc_method_handler(answer, None, None)

    def _watch_handler(self, method: _Method, write: AnswerByWriting) -> Handler:
        async def answer(_: object, context: Context) -> None:
            try:
                await write(await self._only_request(method, context), context)
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_stream_rpc_method_handler(answer, None, method.handler.response_serializer)

    def _stream_handler(self, method: _Method, answer_stream: AnswerStream) -> Handler:
        async def requests(context: Context) -> AsyncIterator[Message]:
            while (request := await self._request(method, context, is_stream=True)) is not None:
                yield request

        async def answer(_: object, context: Context) -> AsyncIterator[Message]:
            try:
                async for response in answer_stream(requests(context), context):
                    yield response
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_stream_rpc_method_handler(answer, None, method.handler.response_serializer)

    async def _reply(self, method: _Method, answer_one: AnswerOne, context: Context) -> bytes:
        # In a function of its own: it is over, and has let go of the request, when an error is sent.
        request = await self._only_request(method, context)
        content = method.handler.response_serializer(await answer_one(request, context))
        return self._kept_until_sent(content, context)

    async def _only_request(self, method: _Method, context: Context) -> Message:
        request = await self._request(method, context, is_stream=False)
        if request is None:
            await self._count_without_request(method)
            raise InvalidRequestError("the call has no request: send one message")
        return request

    async def _count_without_request(self, method: _Method) -> None:
        """Count a call whose message has not come: gRPC itself refuses one that is too large.

        gRPC tells its caller RESOURCE_EXHAUSTED and ends the call, which shows here as one without a message
        that is cancelled at once.
        """
        status = Status.INVALID_ARGUMENT
        try:
            await asyncio.sleep(_REFUSED_SECONDS)
        except asyncio.CancelledError:
            status = Status.RESOURCE_EXHAUSTED
            raise
        finally:
            if method.scores:
                self._requests.count(status)

    async def _request(self, method: _Method, context: Context, *, is_stream: bool) -> Message | None:
        """Return the next request of a call; None: there is no more.

        Raises:
            ScoringError: There is none that can be parsed, in time and within bounds.
        """
        receiving = self._receiving if method.scores else self._receiving_small
        try:
            content = await receiving.receive(context, is_stream=is_stream)
            return None if content is None else await self._parsed(method, content)
        except ScoringError as error:
            if method.scores:
                self._requests.count(error.status)
            raise

    async def _parsed(self, method: _Method, content: bytes) -> Message:
        if len(content) <= LARGE_BYTES:
            return _parse(method.handler, content)
        if not method.scores:
            raise InvalidRequestError(
                f"the request has {len(content)} bytes, the limit of this method is {LARGE_BYTES}"
            )
        with self._budget.take(REQUEST_BYTE_MEMORY * len(content)):
            return await self._threads.run(_parse, method.handler, content)

    def _kept_until_sent(self, content: bytes, context: Context) -> bytes:
        """Count a large reply until the call is over: gRPC holds it until its caller has read it."""
        if len(content) > LARGE_BYTES:
            charge = self._budget.take(0)
            charge.count(len(content))
            # The stubs have a class of their own for what may be any callable.
            context.add_done_callback(lambda _: charge.release())  # type: ignore[arg-type]
        return content


def _parse(handler: AsyncHandler, content: bytes) -> Message:
    try:
        return handler.request_deserializer(content)
    except DecodeError as error:
        raise InvalidRequestError(
            f"the request cannot be decoded ({error}): is it this contract's?"
        ) from None
