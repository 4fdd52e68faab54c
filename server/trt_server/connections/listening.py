"""How a port listens: why it cannot, and how long a connection may take to begin."""

from __future__ import annotations

import errno
import socket

from trt_server.errors import StartError

# From accepting a connection to the end of its handshakes, those of TLS and HTTP/2.
HANDSHAKE_SECONDS = 10.0


def address_of(host: str, port: int) -> str:
    """Return HOST:PORT, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(host: str, port: int, flag: str, reason: str) -> StartError:
    """Return the error of a server that cannot listen.

    Args:
        host: The address, or the name of addresses.
        port: The one that was asked for.
        flag: The one that chose the port.
        reason: Why it cannot.
    """
    return StartError(f"cannot listen on {address_of(host, port)}: {reason}; choose another --host or {flag}")


def reason_of(error: OSError) -> str:
    """Return why the operating system refuses to listen."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    return error.strerror or str(error)


def why_not(host: str, port: int) -> str | None:
    """Return why the operating system refuses to listen there, or None where it does not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        return reason_of(error)
    return None
