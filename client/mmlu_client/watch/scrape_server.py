"""A server of HTTP that answers one request a connection, and holds few connections at once."""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

# Scrapers are few. A further connection is closed at once, so that there are no more threads than these.
MOST_CONNECTIONS = 16
# A connection that says nothing for so long is closed.
IDLE_SECONDS = 5.0


class ScrapeServer(ThreadingMixIn, WSGIServer):
    """Answers what its WSGI application answers, in a thread for each of at most MOST_CONNECTIONS."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: it cannot listen there.
        """
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._room = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, where there is room for one more."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke or fell silent."""


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of a request."""
