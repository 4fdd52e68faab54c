"""A port that nobody listens on."""

from __future__ import annotations

import random
import socket

# Below those that systems give to whoever asks for any port: who asks for one meanwhile gets another.
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """On 127.0.0.1, at this moment."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
