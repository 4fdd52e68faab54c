"""JSON to and from one server over HTTP, through connections that are kept alive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from trt_common.one_line import one_line

from mmlu_client.errors import MuteStreamError, RunError, StreamLostError
from mmlu_client.service.access import Access
from mmlu_client.service.address import Address
from mmlu_client.service.proxy import is_this_machine

CONNECT_SECONDS = 10.0
# An idle connection is kept for so long; a server that closes it earlier is asked through another.
KEEP_ALIVE_SECONDS = 300.0
# More than the longest answer that is asked for: log-probabilities of some thousand tokens.
MOST_ANSWER_BYTES = 64 * 2**20
CHUNK_BYTES = 2**16


@dataclass(frozen=True)
class HttpAnswer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        content: its JSON; None where the body is none.
        body: all of it.
        retry_after: seconds after which it may be asked again; None where it does not say.
    """

    status: int
    content: Any
    body: bytes
    retry_after: float | None

    @property
    def text(self) -> str:
        """The beginning of the body, for messages."""
        return self.body[:500].decode(errors="replace")

    @property
    def is_good(self) -> bool:
        """Whether it is an answer to what was asked, and no error."""
        return self.status == HTTPStatus.OK

    @property
    def message(self) -> str:
        """What it says of an error, in one line, as OpenAI's, vLLM's or FastAPI's servers word it."""
        found = self.content
        for key in ("error", "message", "detail"):
            if isinstance(found, Mapping) and found.get(key):
                found = found[key]
        if not isinstance(found, str):
            found = self.text
        return f"HTTP {self.status}: {one_line(found) or 'nothing more'}"


class HttpEndpoint:
    """Asks one server. Of one asyncio loop."""

    def __init__(self, address: Address, access: Access) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            address: of the server.
            access: what the server is shown, and whose certificates are trusted.

        Raises:
            InputError: a file of certificates cannot be read or used.
        """
        self.address = address
        self._access = access
        self._context = access.tls_context() if address.tls else None
        self._session: aiohttp.ClientSession | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, path: str, seconds: float) -> HttpAnswer:
        """Get what is at a path; wait `seconds` at most.

        Raises:
            StreamLostError: there is no answer; MuteStreamError where there was none in time.
            RunError: the server is not to be trusted, or speaks no TLS.
        """
        return await self._ask("GET", path, None, seconds)

    async def post(self, path: str, fields: Mapping[str, Any], seconds: float | None = None) -> HttpAnswer:
        """Send an object of JSON to a path.

        Args:
            path: of the server.
            fields: of the object.
            seconds: how long to wait at most; None: as long as it takes.

        Raises:
            StreamLostError: there is no answer; MuteStreamError where there was none in time.
            RunError: the server is not to be trusted, or speaks no TLS.
        """
        return await self._ask("POST", path, json.dumps(fields, separators=(",", ":")).encode(), seconds)

    def renew(self) -> None:
        """Use new connections from now on, and give up what is asked on the present ones."""
        self._closing = {each for each in self._closing if not each.done()}
        if self._session is not None:
            self._closing.add(asyncio.create_task(self._session.close()))
            self._session = None

    async def close(self) -> None:
        """Close every connection."""
        self.renew()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _ask(self, method: str, path: str, body: bytes | None, seconds: float | None) -> HttpAnswer:
        """Ask, and once more where the server closed an idle connection as it was used again."""
        try:
            return await self._ask_once(method, path, body, seconds)
        except aiohttp.ServerDisconnectedError:
            pass
        except (aiohttp.ClientError, OSError) as error:
            raise self._trouble(error) from None
        try:
            return await self._ask_once(method, path, body, seconds)
        except (aiohttp.ClientError, OSError) as error:
            raise self._trouble(error) from None

    async def _ask_once(
        self, method: str, path: str, body: bytes | None, seconds: float | None
    ) -> HttpAnswer:
        session = await self._opened()
        headers = dict(self._access.metadata)
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=seconds, connect=None, sock_connect=CONNECT_SECONDS)
        url = f"{self.address}{path}"
        try:
            async with session.request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                content = await _body(response)
                return _answer(response, content)
        except asyncio.TimeoutError:
            raise MuteStreamError("nothing answers") from None

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # how many requests are unanswered is the load's to say
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=True if self._context is None else self._context,
            )
            directly = await is_this_machine(self.address)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=not directly)
        return self._session

    def _trouble(self, error: aiohttp.ClientError | OSError) -> Exception:
        """Return the error that says whether the server may be asked again."""
        target = self.address.target
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return RunError(
                f"the certificate of {target} is not trusted ({one_line(why)}): give its authority with "
                "--tls-ca FILE, and the host by its name in the certificate"
            )
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return RunError(f"the server at {target} does not speak TLS: use --url http://{target}")
        if isinstance(error, aiohttp.ClientResponseError):
            return RunError(f"the server at {target} does not speak HTTP: {one_line(error.message)}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return StreamLostError(f"no connection to {target}: {one_line(error.os_error.strerror or '')}")
        return StreamLostError(f"the connection broke: {one_line(str(error)) or type(error).__name__}")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read the body, and no more of it than an answer can have."""
    parts, size = [], 0
    async for part in response.content.iter_chunked(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            raise RunError(
                f"the server's answer to {response.url.path} is longer than {MOST_ANSWER_BYTES} bytes"
            )
    return b"".join(parts)


def _answer(response: aiohttp.ClientResponse, body: bytes) -> HttpAnswer:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    after = response.headers.get("Retry-After", "")
    return HttpAnswer(
        response.status,
        content,
        body,
        float(after) if after.isascii() and after.isdigit() else None,
    )
