"""Where a request over HTTP comes from, and how long its caller waits for the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from trt_server.http.errors import RequestError
from trt_server.http.header import header_text
from trt_server.rpc.caller import Callers

# OpenAI's own client sends the second with each request.
TIMEOUT_HEADERS = ("X-Request-Timeout", "X-Stainless-Read-Timeout")


@dataclass(frozen=True)
class Timeout:
    """A deadline that a header has set.

    Attributes:
        due: When it passes, on the clock of time.monotonic.
    """

    due: float

    @property
    def passed(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.due


@dataclass(frozen=True)
class HttpSource:
    """The caller of a request.

    Attributes:
        caller: Equal for the requests of one caller.
        deadline: The caller's; None: it has set none.
    """

    caller: str
    deadline: Timeout | None

    @classmethod
    def of(cls, request: web.Request, callers: Callers) -> HttpSource:
        """Return that of a request that has just arrived.

        Args:
            request: What has arrived.
            callers: Tells callers apart.

        Raises:
            RequestError: A header that sets the deadline is no number of seconds above 0.
        """
        peer = request.transport.get_extra_info("peername") if request.transport else None
        host, port = (peer or ("", ""))[:2]
        caller = callers.key(f"http:{host}:{port}", request.headers.get("Authorization"))
        return cls(caller, _timeout(request))


def _timeout(request: web.Request) -> Timeout | None:
    for name in TIMEOUT_HEADERS:
        if (text := header_text(request, name)) is None:
            continue
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:
            raise RequestError(f"{name} {text!r} is no number of seconds above 0", name)
        return Timeout(time.monotonic() + seconds)
    return None
