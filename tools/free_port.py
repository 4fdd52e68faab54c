"""A free port on this machine."""

from __future__ import annotations

import random
import socket

# Below the range from which systems assign a port on request, so that no other program is given this one.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port on 127.0.0.1 on which nothing listens at this moment."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
