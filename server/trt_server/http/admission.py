"""Who may ask over HTTP: a token is asked for on every path but /health."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from trt_server.access.tokens import Tokens
from trt_server.errors import NotAdmittedError
from trt_server.status import Status

OPEN = "/health"


def admission(tokens: Tokens, count_request: Callable[[Status], None] = lambda _: None) -> Middleware:
    """Return a middleware that raises NotAdmittedError for a request without a token that is known.

    Args:
        tokens: Those that let a caller in.
        count_request: Called with the status of each request that is not let in.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != OPEN:
            try:
                tokens.check(request.headers.get("Authorization"))
            except NotAdmittedError as error:
                count_request(error.status)
                raise
        return await handler(request)

    return admit
