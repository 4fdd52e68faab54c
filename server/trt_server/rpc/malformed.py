"""Requests whose bytes are no message of the contract; grpc itself would answer them with a bare UNKNOWN."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from trt_server.errors import InvalidRequestError

Context = aio.ServicerContext[Message, Message]
# The typed handler is the blocking API's; asyncio's has coroutines in the same places.
Handler = Any


class MalformedRequests(aio.ServerInterceptor):
    """Parses the requests of a service, and answers INVALID_ARGUMENT where they cannot be parsed.

    On a stream, the iterator of requests that the service's method reads raises InvalidRequestError.
    """

    def __init__(self, service_name: str) -> None:
        self._prefix = f"/{service_name}/"

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return a handler that parses its requests itself, for the methods of the service."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(self._prefix):
            return handler
        if handler.stream_stream is not None:
            return _stream_handler(handler)
        return _unary_handler(handler)


def _unary_handler(handler: Handler) -> Handler:
    async def answer(content: bytes, context: Context) -> Message:
        try:
            request = _parse(handler, content)
        except InvalidRequestError as error:
            await context.abort(error.status, str(error))
        response: Message = await handler.unary_unary(request, context)
        return response

    return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _stream_handler(handler: Handler) -> Handler:
    async def parsed(contents: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for content in contents:
            yield _parse(handler, content)

    async def answer(contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
        async for response in handler.stream_stream(parsed(contents), context):
            yield response

    return grpc.stream_stream_rpc_method_handler(answer, None, handler.response_serializer)


def _parse(handler: Handler, content: bytes) -> Message:
    try:
        message: Message = handler.request_deserializer(content)
    except DecodeError as error:
        raise InvalidRequestError(
            f"the request cannot be decoded ({error}): is it this contract's?"
        ) from None
    return message
