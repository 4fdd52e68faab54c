"""The header Expect, by which a caller asks whether to send its body."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

CONTINUE = "100-continue"


async def expect(request: web.Request) -> None:
    """Tell the caller to go on; aiohttp's own handler fails where the header is no UTF-8.

    Raises:
        web.HTTPExpectationFailed: It expects something else.
    """
    if request.version != HttpVersion11:
        return
    if request.headers.get("Expect", "").lower() != CONTINUE:
        raise web.HTTPExpectationFailed(text=f"the header Expect can be {CONTINUE} alone\n")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The body has not begun.
    request.writer.output_size = 0
