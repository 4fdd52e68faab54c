"""When calls came: a server that ends waits until no more do, as gRPC would end those with CANCELLED."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import grpc
from grpc import aio

from trt_server.rpc.types import Handler


class Arrivals(aio.ServerInterceptor):
    """Notes the time of each call, of whatever service."""

    def __init__(self) -> None:
        self._last = 0.0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Note the time, and go on."""
        self._last = time.monotonic()
        return await continuation(handler_call_details)

    async def end(self, quiet_seconds: float, at_most: float) -> bool:
        """Wait until no call has come for a while.

        Args:
            quiet_seconds: How long that is.
            at_most: Seconds to wait for it.

        Returns:
            Whether there was such a while.
        """
        start = time.monotonic()
        while (left := self._last + quiet_seconds - time.monotonic()) > 0:
            if time.monotonic() - start > at_most:
                return False
            await asyncio.sleep(left)
        return True
