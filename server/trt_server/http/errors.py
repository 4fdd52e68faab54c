"""Errors as OpenAI's clients read them: an object with message, type, param and code, and an HTTP status."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from trt_server.errors import ScoringError, failure, told
from trt_server.status import Status

log = logging.getLogger(__name__)

# These end the request, or the process, by themselves: the caller is gone, or the server stops.
PASSING = (asyncio.CancelledError, ConnectionError, GeneratorExit, KeyboardInterrupt, SystemExit)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUSES = {
    Status.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Status.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Status.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Status.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Status.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Status.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

# What HTTP's side refuses counts as gRPC's would; everything else is an invalid argument.
REFUSALS = {
    HTTPStatus.NOT_FOUND: Status.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: Status.DEADLINE_EXCEEDED,
}


class RequestError(Exception):
    """A request that HTTP's side refuses. The text is for the caller.

    Attributes:
        status: The HTTP status that it is answered with.
        param: The field that is wrong; None: no single one.
        code: A word for programs; None: there is none.
        retry_after_seconds: When to ask again; None: asking again does not help.
    """

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        code: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds


def request_error(error: ScoringError, where: str = "") -> RequestError:
    """Return what an error of the service is over HTTP; its code is the status in small letters.

    Args:
        error: As the service raised it.
        where: What the text begins with.
    """
    return RequestError(
        f"{where}{error}",
        status=STATUSES.get(error.status, HTTPStatus.INTERNAL_SERVER_ERROR),
        code=error.status.value.lower(),
        retry_after_seconds=error.retry_after_seconds,
    )


def status_of(error: BaseException) -> Status | None:
    """Return the status that a request counts with where it failed so before it was scored.

    None: its caller has left, or the server stops.
    """
    if isinstance(error, PASSING):
        return None
    if isinstance(error, ScoringError):
        return error.status
    if isinstance(error, RequestError):
        return REFUSALS.get(error.status, Status.INVALID_ARGUMENT)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Status.RESOURCE_EXHAUSTED
    return Status.INTERNAL


def error_response(error: RequestError) -> web.Response:
    """Return the response to a request that failed, with Retry-After where asking again helps."""
    is_callers = error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error" if is_callers else "server_error"
    described = {"message": told(error), "type": kind, "param": error.param, "code": error.code}
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    return web.Response(
        status=error.status,
        headers=headers,
        body=msgspec.json.encode({"error": described}),
        content_type="application/json",
    )


@web.middleware
async def errors_as_objects(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with OpenAI's error object, those of aiohttp itself included."""
    try:
        return await handler(request)
    except RequestError as error:
        return error_response(error)
    except ScoringError as error:
        return error_response(request_error(error))
    except web.HTTPRequestEntityTooLarge:
        limit = request.client_max_size
        return error_response(
            RequestError(
                f"the body is larger than {limit} bytes: send fewer prompts at once",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                code="request_too_large",
            )
        )
    except web.HTTPException as error:
        return _not_served(request, error)
    except PASSING:
        raise
    except BaseException as error:
        # Whatever a library raises: its panics are no Exception.
        log.exception("a request failed in the HTTP server")
        return error_response(request_error(failure(error)))


def _not_served(request: web.Request, error: web.HTTPException) -> web.Response:
    """Answer a request for what is not there, or not with this method."""
    status = HTTPStatus(error.status)
    response = error_response(
        RequestError(
            f"{request.method} {request.path}: {status.phrase}. This server has POST /v1/completions, "
            "/tokenize and /detokenize, and GET /v1/models, /tokenizer_info and /health",
            status=status,
            code=status.name.lower(),
        )
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
