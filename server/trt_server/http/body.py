"""A request's body: JSON of a bounded size, decoded into a type."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

import msgspec
from aiohttp import web

from trt_server.http.errors import RequestError
from trt_server.request_memory.byte_budget import ByteBudget, Charge
from trt_server.request_memory.cost import LARGE_BYTES, REQUEST_BYTE_MEMORY
from trt_server.threads.step_threads import StepThreads

Arguments = ParamSpec("Arguments")
Body = TypeVar("Body")
Made = TypeVar("Made")

# As msgspec ends a message that is about one field.
PLACE = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<where>[^`]*)`$", re.DOTALL)
UNKNOWN = re.compile(r"contains unknown field `(?P<name>[^`]*)`")


@dataclass(frozen=True)
class JsonBody:
    """A body's JSON object.

    Attributes:
        fields: Its fields.
        is_large: Whether what is made of it would hold up the event loop.
    """

    fields: dict[str, Any]
    is_large: bool


class BodyReader:
    """Reads bodies within the memory that requests may take, and in time."""

    def __init__(self, budget: ByteBudget, threads: StepThreads, timeout_seconds: float) -> None:
        """Read within bounds.

        Args:
            budget: Of the memory of all requests.
            threads: For large bodies.
            timeout_seconds: A body that has not come whole by then is given up.
        """
        self._budget = budget
        self._threads = threads
        self._timeout = timeout_seconds

    def charge(self) -> Charge:
        """Return what a request will be counted with, for as long as it is answered."""
        return self._budget.take(0)

    async def read_object(self, request: web.Request, charge: Charge) -> JsonBody:
        """Return a body's JSON object.

        Args:
            request: The body's.
            charge: Grows with the body.

        Raises:
            RequestError: It is none, or has not come in time, or cannot be inflated.
            ConnectionError: Its caller has left.
            BudgetSpentError: Requests take all of the memory for them.
            web.HTTPRequestEntityTooLarge: It is larger than the server takes; no more than that much is read.
        """
        if (length := request.content_length) is not None and length > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, length)
        try:
            content = await asyncio.wait_for(_read(request, charge), self._timeout)
        except asyncio.TimeoutError:
            raise RequestError(
                f"the body has not come whole in {self._timeout:g} s: send it again",
                status=HTTPStatus.REQUEST_TIMEOUT,
                code="request_timeout",
            ) from None
        except web.RequestPayloadError as error:
            told = str(error).rpartition("message:")[2].strip()
            raise RequestError(f"the body is not what its headers say: {told}") from None
        is_large = len(content) > LARGE_BYTES
        fields = await self.made(is_large, _object, content)
        return JsonBody(fields, is_large)

    async def made(
        self,
        is_large: bool,
        make: Callable[Arguments, Made],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Made:
        """Return what a function makes of a body: beside the event loop where it is large."""
        if is_large:
            return await self._threads.run(make, *arguments, **named)
        return make(*arguments, **named)


async def _read(request: web.Request, charge: Charge) -> bytes:
    content = bytearray()
    while part := await request.content.readany():
        if len(content) + len(part) > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(content) + len(part))
        charge.grow(REQUEST_BYTE_MEMORY * len(part))
        content += part
    return bytes(content)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is no JSON: {error}") from None
    except RecursionError:
        raise RequestError("the body is no JSON that is taken: it is nested too deeply") from None
    if not isinstance(found, dict):
        raise RequestError("the body is no JSON object")
    return found


def convert(fields: dict[str, Any], body: type[Body]) -> Body:
    """Return the fields as a type of body.

    Raises:
        RequestError: A field is missing, of another type than it should be, or unknown.
    """
    try:
        return msgspec.convert(fields, type=body)
    except msgspec.ValidationError as error:
        message = str(error)
        if unknown := UNKNOWN.search(message):
            raise unknown_field(unknown["name"]) from None
        if not (place := PLACE.match(message)):
            raise RequestError(f"the body: {message}") from None
        where = place["where"]
        param = re.split(r"[.\[]", where)[0] or None
        raise RequestError(f"{where or 'the body'}: {place['what']}", param) from None


def unknown_field(name: str) -> RequestError:
    """Return the error of a field that the server does not know."""
    return RequestError(f"unrecognized request argument {name!r}: leave it out", name)
