"""The HTTP port: opened before the model is loaded, closed when what was answered is written."""

from __future__ import annotations

import logging

from aiohttp import web

from trt_server.http.application import Application
from trt_server.rpc.endpoints import cannot_listen, tls_context
from trt_server.settings import Settings

# Bytes that are no HTTP are answered by aiohttp, which would log a traceback of each; errors of handlers are
# logged where they are answered.
_protocol_log = logging.getLogger(f"{__name__}.protocol")
_protocol_log.setLevel(logging.CRITICAL)


class HttpListener:
    """An application on a port, in the event loop that it is opened in."""

    def __init__(self, application: Application, max_body_bytes: int, last_writes_seconds: float) -> None:
        """Make it ready to listen.

        Args:
            application: What answers.
            max_body_bytes: Of a request.
            last_writes_seconds: How long responses that are on their way are waited for when it closes.
        """
        self._runner = web.AppRunner(
            application.web_application(max_body_bytes),
            access_log=None,
            logger=_protocol_log,
            # A client that goes away cancels its request.
            handler_cancellation=True,
            shutdown_timeout=last_writes_seconds,
        )

    async def open(self, port: int, settings: Settings) -> int:
        """Listen.

        Args:
            port: 0: a free one.
            settings: The server's, for the address and TLS.

        Returns:
            The port.

        Raises:
            StartError: It cannot listen there, or the certificate and its key cannot be used.
        """
        context = tls_context(settings)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, settings.host, port, ssl_context=context).start()
        except OSError as error:
            raise cannot_listen(settings.host, port, "--http-port", error) from None
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Take no new connections, and end the open ones when their responses are written."""
        await self._runner.cleanup()
