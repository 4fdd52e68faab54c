"""Who may call: a token is asked for by every method but those of health."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health
from trt_common.access.token import AUTHORIZATION

from trt_server.access.tokens import Tokens
from trt_server.errors import NotAdmittedError
from trt_server.rpc.abort import grpc_status
from trt_server.rpc.types import Context, Handler
from trt_server.status import Status

# Supervisors and balancers ask it, and have no token.
OPEN = f"/{health.SERVICE_NAME}/"


class Admission(aio.ServerInterceptor):
    """Answers UNAUTHENTICATED to calls without a known token, before anything of a request is read."""

    def __init__(self, tokens: Tokens, count_request: Callable[[Status], None]) -> None:
        """Make it ready.

        Args:
            tokens: Those that let a caller in.
            count_request: Called with the status of each call that is not let in.
        """
        self._tokens = tokens
        self._count_request = count_request

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler, or one that refuses the call."""
        if not handler_call_details.method.startswith(OPEN):
            try:
                self._tokens.check(_header(handler_call_details.invocation_metadata))
            except NotAdmittedError as error:
                self._count_request(error.status)
                return _refusing(error)
        return await continuation(handler_call_details)


def _header(metadata: Any) -> str | None:
    return next((str(value) for key, value in metadata or () if key == AUTHORIZATION), None)


def _refusing(error: NotAdmittedError) -> Handler:
    """Return a handler of a stream, whatever the method is: it need not wait for the request to have come."""

    async def refuse(_: AsyncIterator[bytes], context: Context) -> None:
        await context.abort(grpc_status(error.status), str(error))

    return grpc.stream_stream_rpc_method_handler(refuse)
