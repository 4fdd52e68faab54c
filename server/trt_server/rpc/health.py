"""Whether the server takes new work, as everybody who asks is told it."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health, health_pb2

from trt_server.observe.model_metrics import ModelMetrics
from trt_server.rpc.service import SERVICE_NAME

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The state that gRPC's health service, HTTP's /health and the metrics tell.

    Attributes:
        servicer: gRPC's health service.
        serving: Whether the server takes new work.
        is_over: It will take none any more.
    """

    def __init__(self, metrics: ModelMetrics) -> None:
        self.servicer = health.aio.HealthServicer()
        self.serving = False
        self.is_over = False
        self._metrics = metrics
        self._changing: asyncio.Task[None] | None = None

    async def set(self, serving: bool) -> None:
        """Tell from now on that the server takes new work, unless that is over, or that it does not."""
        self.serving = serving and not self.is_over
        self._metrics.set_serving(self.serving)
        for name in ("", SERVICE_NAME):
            await self.servicer.set(name, SERVING if self.serving else NOT_SERVING)

    def change(self, serving: bool) -> None:
        """Have it set, without waiting until those who watch are told."""
        self._changing = asyncio.create_task(self.set(serving))

    async def end(self) -> None:
        """Tell from now on, for good, that the server takes no new work."""
        self.is_over = True
        await self.set(serving=False)

    def lose(self) -> None:
        """Do as `end` does, without waiting until those who watch are told."""
        self.is_over = True
        self.change(serving=False)
