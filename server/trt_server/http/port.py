"""A port of HTTP: its connections are counted, limited, and closed when they are idle."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl

from aiohttp import web

from trt_server.access.access import Access
from trt_server.connections.limit import ConnectionLimit
from trt_server.connections.listening import HANDSHAKE_SECONDS, cannot_listen, reason_of

log = logging.getLogger(__name__)
# Bytes that are no HTTP are answered by aiohttp, which would log a traceback of each; errors of handlers are
# logged where they are answered.
_protocol_log = logging.getLogger(f"{__name__}.protocol")
_protocol_log.setLevel(logging.CRITICAL)

# A caller that takes nothing of its answer for so long is gone.
UNREAD_SECONDS = 60
# Waiting connections that the system keeps.
BACKLOG = 128
# After the system could not accept a connection.
PAUSE_SECONDS = 1.0


class HttpPort:
    """An application on a port, in the event loop that it is opened in."""

    def __init__(
        self,
        application: web.Application,
        access: Access,
        limit: ConnectionLimit,
        *,
        idle_seconds: float,
        last_writes_seconds: float,
    ) -> None:
        """Make it ready to listen.

        Args:
            application: What answers; it checks tokens itself.
            access: Whether and how TLS is spoken.
            limit: The most connections; further ones are closed at once.
            idle_seconds: After so long without a request a connection is closed.
            last_writes_seconds: How long responses that are on their way are waited for when it closes.
        """
        self._access = access
        self._limit = limit
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_protocol_log,
            # A client that goes away cancels its request.
            handler_cancellation=True,
            keepalive_timeout=idle_seconds,
            shutdown_timeout=last_writes_seconds,
        )
        self._accepting: list[asyncio.Task[None]] = []
        # Connections that aiohttp does not know yet.
        self._beginning: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int, flag: str) -> int:
        """Listen.

        Args:
            host: The address, or the name of addresses.
            port: 0: a free one.
            flag: The one that chose the port.

        Returns:
            The port.

        Raises:
            StartError: It cannot listen there.
        """
        await self._runner.setup()
        try:
            listening = await asyncio.get_running_loop().run_in_executor(None, _listen, host, port)
        except OSError as error:
            raise cannot_listen(host, port, flag, reason_of(error)) from None
        self._accepting = [asyncio.create_task(self._accept(each)) for each in listening]
        return int(listening[0].getsockname()[1])

    async def close(self) -> None:
        """Take no new connections, and end the open ones when their responses are written."""
        tasks = [*self._accepting, *self._beginning]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def _accept(self, listening: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(listening)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        log.warning(
                            "the %s port cannot take a connection: %s", self._limit.port, error.strerror
                        )
                        await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if self._held >= self._limit.most:
                    accepted.close()
                else:
                    self._take(accepted)
                self._limit.note(self._held)

    def _take(self, accepted: socket.socket) -> None:
        task = asyncio.create_task(self._begin(accepted))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    @property
    def _held(self) -> int:
        server = self._runner.server
        return len(self._beginning) + (0 if server is None else len(server.connections))

    async def _begin(self, accepted: socket.socket) -> None:
        """Hand a connection to aiohttp, after the handshake of TLS where that is spoken."""
        _give_up_unread(accepted)
        context: ssl.SSLContext | None = None
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            if self._access.certificates is not None:
                context = self._access.certificates.context
            await asyncio.get_running_loop().connect_accepted_socket(
                self._runner.server,  # type: ignore[arg-type]
                accepted,
                ssl=context,
                ssl_handshake_timeout=None if context is None else HANDSHAKE_SECONDS,
            )


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on each address of a host, all on one port.

    Raises:
        OSError: It cannot be listened on any of them, or one has the port in use.
    """
    found: list[socket.socket] = []
    unavailable: OSError | None = None
    with contextlib.ExitStack() as unless_all_listen:
        for family, address in _addresses(host, port):
            try:
                listening = socket.create_server(
                    (address, found[0].getsockname()[1] if found else port),
                    family=family,
                    backlog=BACKLOG,
                    dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
                )
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
                continue
            unless_all_listen.enter_context(listening)
            listening.setblocking(False)
            found.append(listening)
        if unavailable is not None and not found:
            raise unavailable
        unless_all_listen.pop_all()
    return found


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in entries))


def _give_up_unread(accepted: socket.socket) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)
