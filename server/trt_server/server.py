"""The server's process: it listens, loads the model, serves, drains and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server.access.access import access_warning, read_access
from trt_server.connections.descriptors import connections_that_fit
from trt_server.connections.grpc_watch import watch_grpc
from trt_server.connections.limit import ConnectionLimit
from trt_server.http.metrics import MetricsPort
from trt_server.loading.loading import Loaded, load
from trt_server.observe.metrics import Metrics
from trt_server.rpc.admission import Admission
from trt_server.rpc.endpoints import MAX_REQUEST_BYTES, bind_grpc, grpc_options
from trt_server.rpc.malformed import MalformedRequests
from trt_server.rpc.scoring import Scoring
from trt_server.rpc.service import ScoringService
from trt_server.settings import Settings

if TYPE_CHECKING:
    from trt_server.http.port import HttpPort

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Scoring"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# For replies that are computed and on their way out when the server stops.
LAST_WRITES_SECONDS = 5.0
# Of the metrics' port: scrapers are few.
METRICS_CONNECTIONS = 64
MORE_CONNECTIONS = "--max-connections sets it"


async def serve(settings: Settings) -> bool:
    """Run a server until a signal stops it.

    Returns:
        Whether the model was loaded before the signal came.

    Raises:
        StartError: The server cannot start.
    """
    return await Server(settings).run()


class Server:
    """The parts of one server, and their order from start to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._scoring = Scoring(self._metrics)
        self._service = ScoringService(self._scoring)
        self._health = health.aio.HealthServicer()
        self._serving = False
        self._http: HttpPort | None = None
        self._stop = asyncio.Event()
        self._access = read_access(settings)
        if (certificates := self._access.service.certificates) is not None:
            self._metrics.describe_certificates(lambda: certificates.expiries)
        ports = 1 if settings.http_port is None else 2
        self._max_connections = connections_that_fit(settings.max_connections, ports, METRICS_CONNECTIONS)
        self._grpc_limit = ConnectionLimit("gRPC", self._max_connections, MORE_CONNECTIONS)
        self._metrics.describe_port("grpc", self._max_connections, lambda: self._grpc_limit.held)
        metrics_limit = ConnectionLimit("metrics", METRICS_CONNECTIONS)
        self._metrics_port = MetricsPort(self._metrics.registry, self._access.metrics, metrics_limit)
        self._metrics.describe_port("metrics", METRICS_CONNECTIONS, lambda: metrics_limit.held)
        self._grpc = aio.server(
            options=grpc_options(self._max_connections, settings.idle_timeout),
            interceptors=self._interceptors(),
        )
        pb_grpc.add_ScoringServicer_to_server(self._service, self._grpc)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if not settings.no_reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)

    def _interceptors(self) -> list[aio.ServerInterceptor]:
        """Return what a call passes before its method, the first first."""
        malformed = MalformedRequests(SERVICE_NAME)
        tokens = self._access.service.tokens
        return [malformed] if tokens is None else [Admission(tokens, self._metrics.count_request), malformed]

    async def run(self) -> bool:
        """Listen, load, serve and drain, as `serve` says."""
        settings, started = self._settings, time.monotonic()
        self._catch_signals()
        if (warning := access_warning(settings)) is not None:
            log.warning(warning)
        grpc_port = bind_grpc(self._grpc, settings, self._access.service.certificates)
        metrics_port = self._metrics_port.open(settings.host, settings.metrics_port)
        await self._set_health(NOT_SERVING)
        await self._grpc.start()
        watching = asyncio.create_task(watch_grpc(grpc_port, self._grpc_limit))
        ports = {"grpc_port": grpc_port, "metrics_port": metrics_port}
        try:
            if settings.http_port is not None:
                ports["http_port"] = await self._open_http(settings.http_port)
            log.info("listening, loading %s", settings.model, extra={"event": "listening", **ports})
            loaded = await self._load()
            if loaded is None:
                log.info("stopped before the model was loaded")
                return False
            await self._set_health(SERVING)
            log.info(
                "serving on %s:%d, %smetrics on %s://%s:%d/metrics, ready after %.2f s",
                settings.host,
                grpc_port,
                self._completions_address(ports),
                "https" if settings.metrics_tls else "http",
                settings.host,
                metrics_port,
                time.monotonic() - started,
                extra={"event": "serving", **ports},
            )
            await self._stop.wait()
            await self._drain(loaded)
            return True
        finally:
            watching.cancel()
            # Together, as either waits for its last writes.
            await asyncio.gather(self._grpc.stop(LAST_WRITES_SECONDS), self._close_http())
            self._metrics_port.close()

    async def _open_http(self, port: int) -> int:
        """Open the HTTP port; return it."""
        # Here, because it takes a while and most servers have no such port.
        from trt_server.http.admission import admission
        from trt_server.http.application import Application
        from trt_server.http.port import HttpPort

        access, limit = self._access.service, ConnectionLimit("HTTP", self._max_connections, MORE_CONNECTIONS)
        admit = [] if access.tokens is None else [admission(access.tokens, self._metrics.count_request)]
        application = Application(self._scoring, lambda: self._serving, admit)
        self._http = HttpPort(
            application.web_application(MAX_REQUEST_BYTES),
            access,
            limit,
            idle_seconds=self._settings.idle_timeout,
            last_writes_seconds=LAST_WRITES_SECONDS,
        )
        self._metrics.describe_port("http", limit.most, lambda: limit.held)
        return await self._http.open(self._settings.host, port, "--http-port")

    async def _close_http(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _completions_address(self, ports: Mapping[str, int]) -> str:
        if "http_port" not in ports:
            return ""
        scheme = "http" if self._settings.tls_cert is None else "https"
        return f"completions on {scheme}://{self._settings.host}:{ports['http_port']}/v1, "

    async def _load(self) -> Loaded | None:
        """Load the model and open the service; None where a signal came before that was done."""
        loading = asyncio.create_task(
            load(self._settings, on_batch=self._metrics.observe_batch, on_lost=self._lose)
        )
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            return None
        loaded = loading.result()
        self._metrics.describe_model(loaded.served)
        for engine in loaded.engines:
            labels = [device.label for device in engine.devices]
            self._metrics.describe_engine(engine.description, labels, engine.queue, engine.group.prefixes)
        self._scoring.open(loaded)
        return loaded

    async def _drain(self, loaded: Loaded) -> None:
        await self._set_health(NOT_SERVING)
        self._service.stop_reading()
        for engine in loaded.engines:
            engine.queue.drain()
        log.info("draining: accepted work is answered, new work is refused")
        try:
            await asyncio.wait_for(self._drained(loaded), self._settings.drain_timeout)
        except asyncio.TimeoutError:
            log.warning("stopped after %g s of draining with work unanswered", self._settings.drain_timeout)

    async def _drained(self, loaded: Loaded) -> None:
        await self._scoring.answered()
        for engine in loaded.engines:
            await engine.group.finish()

    def _lose(self, reason: str) -> None:
        """Say NOT_SERVING, because an engine failed for good: a supervisor may start the process again."""
        log.error("not serving any more: %s", reason)
        self._losing = asyncio.create_task(self._set_health(NOT_SERVING))

    async def _set_health(self, status: int) -> None:
        self._serving = status == SERVING
        self._metrics.set_serving(self._serving)
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        """Drain at the first signal, exit at once at the second."""
        if self._stop.is_set():
            raise SystemExit(1)
        self._stop.set()
