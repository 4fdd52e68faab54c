"""The metrics' port, in an event loop of its own: it answers whatever the other ports are busy with."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from trt_server.access.access import Access
from trt_server.connections.limit import ConnectionLimit
from trt_server.errors import NotAdmittedError
from trt_server.http.admission import admission
from trt_server.http.expect import expect
from trt_server.http.port import HttpPort
from trt_server.observe.prometheus import CollectorRegistry, metrics_handler

PATH = "/metrics"
# Scrapers come every few seconds, or stay connected.
IDLE_SECONDS = 120.0
CLOSE_SECONDS = 5.0


class MetricsPort:
    """Serves a registry in one thread, however many connections there are."""

    def __init__(self, registry: CollectorRegistry, access: Access, limit: ConnectionLimit) -> None:
        """Make it ready to listen.

        Args:
            registry: What is told.
            access: What a scraper is asked for.
            limit: The most connections.
        """
        self._registry = registry
        self._access = access
        self._limit = limit
        self._thread: threading.Thread | None = None

    def open(self, host: str, port: int) -> int:
        """Listen.

        Returns:
            The port, which the system has chosen where 0 is asked for.

        Raises:
            StartError: It cannot listen there.
        """
        opened: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(host, port, opened), name="metrics", daemon=True
        )
        self._thread.start()
        return opened.result()

    def close(self) -> None:
        """Answer the scrapes that are on, and end."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(CLOSE_SECONDS)

    def _run(self, host: str, port: int, opened: Future[int]) -> None:
        try:
            asyncio.run(self._serve(host, port, opened))
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _serve(self, host: str, port: int, opened: Future[int]) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        http = HttpPort(
            self._application(),
            self._access,
            self._limit,
            idle_seconds=IDLE_SECONDS,
            last_writes_seconds=CLOSE_SECONDS / 2,
        )
        try:
            opened.set_result(await http.open(host, port, "--metrics-port"))
            await self._closing.wait()
        finally:
            await http.close()

    def _application(self) -> web.Application:
        middlewares: list[Middleware] = [_refusals]
        if self._access.tokens is not None:
            middlewares.append(admission(self._access.tokens))
        application = web.Application(middlewares=middlewares)
        application.router.add_get(PATH, metrics_handler(self._registry), expect_handler=expect)
        return application


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NotAdmittedError as error:
        return web.Response(status=401, text=f"{error}\n", headers={"WWW-Authenticate": "Bearer"})
    except web.HTTPNotFound:
        return web.Response(status=404, text=f"the metrics are at {PATH}\n")
