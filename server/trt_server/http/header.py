"""The headers of a request as text."""

from __future__ import annotations

from aiohttp import web

from trt_server.http.errors import RequestError


def header_text(request: web.Request, name: str) -> str | None:
    """Return a header's value; None where the request has none.

    Raises:
        RequestError: It is no UTF-8. aiohttp keeps such bytes as surrogates, which no reply can hold.
    """
    value = request.headers.get(name)
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RequestError(f"the header {name} is no UTF-8: send it as text, or leave it out", name) from None
    return value
