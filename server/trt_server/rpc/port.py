"""The gRPC port: its services, and what a call passes before them."""

from __future__ import annotations

import asyncio

from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server.access.access import Access
from trt_server.connections.grpc_watch import watch_grpc
from trt_server.connections.limit import ConnectionLimit
from trt_server.observe.request_metrics import RequestMetrics
from trt_server.rpc.admission import Admission
from trt_server.rpc.arrivals import Arrivals
from trt_server.rpc.door import Door
from trt_server.rpc.endpoints import bind_grpc, grpc_options
from trt_server.rpc.health import Health
from trt_server.rpc.service import SERVICE_NAME, ScoringService
from trt_server.settings import Settings

# A server that ends waits until no call has come for so long.
QUIET_SECONDS = 0.2


class GrpcPort:
    """The contract's service, health and reflection on one port."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        limit: ConnectionLimit,
        door: Door,
        requests: RequestMetrics,
    ) -> None:
        """Make it ready to listen.

        Args:
            settings: The server's.
            access: What callers are asked for.
            limit: The most connections.
            door: What calls come in by.
            requests: Count the calls that are not let in.
        """
        self._settings = settings
        self._access = access
        self._limit = limit
        self._arrivals = Arrivals()
        # What a call passes, the first first: of strangers nothing is received.
        admission = [] if access.tokens is None else [Admission(access.tokens, requests.count)]
        self._server = aio.server(
            options=grpc_options(settings, limit.most), interceptors=[*admission, self._arrivals, door]
        )
        self._watching: asyncio.Task[None] | None = None

    def bind(self, service: ScoringService, state: Health) -> int:
        """Take connections, whose calls are answered once it is started.

        Args:
            service: The contract's.
            state: Whose service of health is added.

        Returns:
            The port, which the system has chosen where the settings say 0.

        Raises:
            StartError: It cannot listen there.
        """
        pb_grpc.add_ScoringServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(state.servicer, self._server)
        if not self._settings.no_reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self._port = bind_grpc(self._server, self._settings, self._access.certificates)
        return self._port

    async def start(self) -> None:
        """Answer calls."""
        await self._server.start()
        self._watching = asyncio.create_task(watch_grpc(self._port, self._limit))

    async def close(self, last_writes_seconds: float) -> None:
        """Wait for the last writes; the process closes the connections, which is UNAVAILABLE to callers.

        gRPC itself would end calls that come in between, and those that stay open, with CANCELLED.

        Args:
            last_writes_seconds: How long replies that are on their way are waited for.
        """
        if self._watching is not None:
            self._watching.cancel()
        if await self._arrivals.end(QUIET_SECONDS, last_writes_seconds):
            stopping = asyncio.create_task(self._server.stop(2 * last_writes_seconds))
            await asyncio.wait({stopping}, timeout=last_writes_seconds)
