"""How many connections the gRPC port holds: its core does not say, so that the system is asked."""

from __future__ import annotations

import asyncio

import psutil

from trt_server.connections.limit import ConnectionLimit
from trt_server.threads.background import in_background

WATCH_SECONDS = 5.0


async def watch_grpc(port: int, limit: ConnectionLimit) -> None:
    """Tell a limit every few seconds how many connections the gRPC port holds, until cancelled.

    Args:
        port: Of gRPC.
        limit: What is told; where the system does not say, it is not.
    """
    while True:
        try:
            limit.note(await in_background(_count, port))
        except (psutil.Error, OSError):
            return
        await asyncio.sleep(WATCH_SECONDS)


def _count(port: int) -> int:
    """Return how many connections of this process are established at a port of its own."""
    return sum(
        connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
        for connection in psutil.Process().net_connections("tcp")
        if connection.laddr
    )
