"""Types of gRPC's asyncio API; those of handlers are ours, as the stubs have the blocking API's alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc import aio

Context: TypeAlias = aio.ServicerContext[Message, Message]
# What an interceptor hands on, whichever messages its method has. Only the stubs give the class parameters.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

AnswerOne: TypeAlias = Callable[[Message, Context], Awaitable[Message]]
# It writes to the context by itself.
AnswerByWriting: TypeAlias = Callable[[Message, Context], Awaitable[None]]
AnswerStream: TypeAlias = Callable[[AsyncIterator[Message], Context], AsyncIterator[Message]]


class AsyncHandler(Protocol):
    """A method's handler as a service of asyncio has it; of what answers, all but one are None."""

    @property
    def request_deserializer(self) -> Callable[[bytes], Message]:
        """Parses a request; raises DecodeError where it is none."""
        ...

    @property
    def response_serializer(self) -> Callable[[Message], bytes]:
        """Writes a response."""
        ...

    @property
    def unary_unary(self) -> AnswerOne | None:
        """Answers one request with one response."""
        ...

    @property
    def unary_stream(self) -> AnswerByWriting | None:
        """Answers one request with a stream."""
        ...

    @property
    def stream_stream(self) -> AnswerStream | None:
        """Answers a stream of requests with a stream."""
        ...
