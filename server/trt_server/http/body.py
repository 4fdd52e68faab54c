"""A request's body: JSON of a bounded size, decoded into a type."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from trt_server.http.errors import RequestError

Body = TypeVar("Body")

# As msgspec ends a message that is about one field.
PLACE = re.compile(r"^(?P<what>.*) - at `\$\.?(?P<where>[^`]*)`$", re.DOTALL)
UNKNOWN = re.compile(r"contains unknown field `(?P<name>[^`]*)`")


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return a body's JSON object.

    Raises:
        RequestError: It is none.
        web.HTTPRequestEntityTooLarge: It is larger than the server takes; no more than that much is read.
    """
    if (length := request.content_length) is not None and length > request.client_max_size:
        raise web.HTTPRequestEntityTooLarge(request.client_max_size, length)
    content = await request.read()
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is no JSON: {error}") from None
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
