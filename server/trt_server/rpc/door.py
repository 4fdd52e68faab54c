"""The door that every gRPC call comes in by, whichever its service.

Its messages are received within bounds and parsed here, large ones beside the event loop. Whatever is raised
behind it, the caller gets a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from trt_server.errors import InvalidRequestError, ScoringError
from trt_server.observe.metrics import Metrics
from trt_server.rpc.abort import Context, abort, scoring_error
from trt_server.rpc.byte_budget import ByteBudget
from trt_server.rpc.receiving import Receiving
from trt_server.scheduling.step_threads import StepThreads
from trt_server.settings import LEAST_REQUEST_BYTES, REQUEST_BYTE_MEMORY

# The typed handler is the blocking API's; asyncio's has coroutines in the same places.
Handler = Any

# A message that is longer is parsed and written beside the event loop.
LARGE_BYTES = LEAST_REQUEST_BYTES
# Within so long gRPC ends a call whose message it has refused.
_REFUSED_SECONDS = 0.5


class Door(aio.ServerInterceptor):
    """Receives, parses, and answers with a status where anything goes wrong."""

    def __init__(
        self,
        scoring_methods: frozenset[str],
        budget: ByteBudget,
        receiving: Receiving,
        receiving_small: Receiving,
        threads: StepThreads,
        metrics: Metrics,
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
            metrics: Count.
        """
        self._scoring_methods = scoring_methods
        self._budget = budget
        self._receiving = receiving
        self._receiving_small = receiving_small
        self._threads = threads
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return a handler that has the door before the method's own; None: there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        scores = handler_call_details.method in self._scoring_methods
        if handler.stream_stream is not None:
            return self._stream_handler(handler, scores)
        if handler.unary_stream is not None:
            return self._watch_handler(handler, scores)
        return self._unary_handler(handler, scores)

    def _unary_handler(self, handler: Handler, scores: bool) -> Handler:
        # As a method with a stream of requests, which may choose when it receives the only one.
        async def answer(_: object, context: Context) -> bytes:
            try:
                return await self._reply(handler, context, scores)
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_unary_rpc_method_handler(answer, None, None)

    def _watch_handler(self, handler: Handler, scores: bool) -> Handler:
        async def answer(_: object, context: Context) -> None:
            try:
                request = await self._only_request(handler, context, scores)
                # A coroutine, which writes by itself.
                await handler.unary_stream(request, context)
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_stream_rpc_method_handler(answer, None, handler.response_serializer)

    def _stream_handler(self, handler: Handler, scores: bool) -> Handler:
        async def requests(context: Context) -> AsyncIterator[Message]:
            while (request := await self._request(handler, context, scores, is_stream=True)) is not None:
                yield request

        async def answer(_: object, context: Context) -> AsyncIterator[Message]:
            try:
                async for response in handler.stream_stream(requests(context), context):
                    yield response
            except BaseException as error:
                await abort(context, scoring_error(error))

        return grpc.stream_stream_rpc_method_handler(answer, None, handler.response_serializer)

    async def _reply(self, handler: Handler, context: Context, scores: bool) -> bytes:
        # In a function of its own: it is over, and has let go of the request, when an error is sent.
        request = await self._only_request(handler, context, scores)
        content: bytes = handler.response_serializer(await handler.unary_unary(request, context))
        return self._kept_until_sent(content, context)

    async def _only_request(self, handler: Handler, context: Context, scores: bool) -> Message:
        request = await self._request(handler, context, scores, is_stream=False)
        if request is None:
            await self._count_without_request(scores)
            raise InvalidRequestError("the call has no request: send one message")
        return request

    async def _count_without_request(self, scores: bool) -> None:
        """Count a call whose message has not come: gRPC itself refuses one that is too large.

        gRPC tells its caller RESOURCE_EXHAUSTED and ends the call, which shows here as one without a message
        that is cancelled at once.
        """
        code = grpc.StatusCode.INVALID_ARGUMENT
        try:
            await asyncio.sleep(_REFUSED_SECONDS)
        except asyncio.CancelledError:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            raise
        finally:
            if scores:
                self._metrics.count_request(code.name)

    async def _request(
        self, handler: Handler, context: Context, scores: bool, *, is_stream: bool
    ) -> Message | None:
        """Return the next request of a call; None: there is no more.

        Raises:
            ScoringError: There is none that can be parsed, in time and within bounds.
        """
        receiving = self._receiving if scores else self._receiving_small
        try:
            content = await receiving.receive(context, is_stream=is_stream)
            return None if content is None else await self._parsed(handler, content, scores)
        except ScoringError as error:
            if scores:
                self._metrics.count_request(error.status.name)
            raise

    async def _parsed(self, handler: Handler, content: bytes, scores: bool) -> Message:
        if len(content) <= LARGE_BYTES:
            return _parse(handler, content)
        if not scores:
            raise InvalidRequestError(
                f"the request has {len(content)} bytes, the limit of this method is {LARGE_BYTES}"
            )
        with self._budget.take(REQUEST_BYTE_MEMORY * len(content)):
            return await self._threads.run(_parse, handler, content)

    def _kept_until_sent(self, content: bytes, context: Context) -> bytes:
        """Count a large reply until the call is over: gRPC holds it until its caller has read it."""
        if len(content) > LARGE_BYTES:
            charge = self._budget.take(0)
            charge.count(len(content))
            # The stubs have a class of their own for what may be any callable.
            context.add_done_callback(lambda _: charge.release())  # type: ignore[arg-type]
        return content


def _parse(handler: Handler, content: bytes) -> Message:
    try:
        message: Message = handler.request_deserializer(content)
    except DecodeError as error:
        raise InvalidRequestError(
            f"the request cannot be decoded ({error}): is it this contract's?"
        ) from None
    return message
