"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable

# On a machine that has much else to do.
SECONDS = 200.0


def wait_until(holds: Callable[[], bool], otherwise: str = "it never came to that") -> None:
    """Ask until it holds; otherwise: what is said where it does not for SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
