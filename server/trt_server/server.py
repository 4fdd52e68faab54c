"""The server's process: it listens, loads the model, serves, drains and stops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from trt_server import exit_status
from trt_server.access.access import access_warning, read_access
from trt_server.connections.descriptors import connections_that_fit
from trt_server.connections.limit import ConnectionLimit
from trt_server.http.metrics_port import MetricsPort
from trt_server.loading.loading import Loaded, load
from trt_server.observe.metrics import Metrics
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.request_memory.cost import MESSAGE_COPIES
from trt_server.rpc.caller import Callers
from trt_server.rpc.door import Door
from trt_server.rpc.health import Health
from trt_server.rpc.port import GrpcPort
from trt_server.rpc.receiving import Receiving
from trt_server.rpc.scoring import Scoring
from trt_server.rpc.service import SCORING_METHODS, ScoringService
from trt_server.settings import Settings
from trt_server.signals import StopSignals
from trt_server.stall import StallWatch
from trt_server.threads.step_threads import StepThreads

if TYPE_CHECKING:
    from trt_server.http.port import HttpPort

log = logging.getLogger(__name__)

# For texts and large messages: two, so that a large one does not hold up all others.
STEP_THREADS = 2
# Calls of other methods whose requests are received at once.
SMALL_PLACES = 16
# For replies that are computed and on their way out when the server stops.
LAST_WRITES_SECONDS = 5.0
# Of the metrics' port: scrapers are few.
METRICS_CONNECTIONS = 64
MORE_CONNECTIONS = "--max-connections sets it"


async def serve(settings: Settings) -> NoReturn:
    """Run a server until a signal stops it, and end the process with the status of `exit_status.py`.

    Raises:
        StartError: The server cannot start.
    """
    # Here, because an event loop that ends waits for its threads.
    exit_status.leave(await Server(settings).run())


class Server:
    """The parts of one server, and their order from start to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._budget = ByteBudget(settings.request_memory)
        self._metrics.requests.describe_budget(self._budget)
        self._threads = StepThreads(STEP_THREADS)
        self._scoring = Scoring(self._metrics, self._budget, self._threads)
        self._access = read_access(settings)
        if (certificates := self._access.service.certificates) is not None:
            self._metrics.ports.describe_certificates(lambda: certificates.expiries)
        self._callers = Callers(by_token=self._access.service.tokens is not None)
        self._service = ScoringService(self._scoring, self._budget, self._callers)
        self._health = Health(self._metrics.model)
        self._stop = StopSignals()
        ports = 1 if settings.http_port is None else 2
        self._max_connections = connections_that_fit(settings.max_connections, ports, METRICS_CONNECTIONS)
        self._grpc = GrpcPort(
            settings,
            self._access.service,
            self._limit("gRPC", self._max_connections, MORE_CONNECTIONS),
            self._door(),
            self._metrics.requests,
        )
        self._metrics_port = MetricsPort(
            self._metrics.registry, self._access.metrics, self._limit("metrics", METRICS_CONNECTIONS)
        )
        self._http: HttpPort | None = None

    def _limit(self, port: str, most: int, remedy: str = "") -> ConnectionLimit:
        """Return the limit of a port, which the metrics tell."""
        limit = ConnectionLimit(port, most, remedy)
        self._metrics.ports.describe(port.lower(), most, lambda: limit.held)
        return limit

    def _door(self) -> Door:
        size, timeout = self._settings.max_request_bytes, self._settings.receive_timeout
        receiving = Receiving(self._budget, size, timeout)
        receiving_small = Receiving(ByteBudget(MESSAGE_COPIES * size * SMALL_PLACES), size, timeout)
        return Door(
            SCORING_METHODS, self._budget, receiving, receiving_small, self._threads, self._metrics.requests
        )

    async def run(self) -> int:
        """Listen, load, serve and drain; return the process's status."""
        settings, started = self._settings, time.monotonic()
        self._stop.catch()
        if (warning := access_warning(settings)) is not None:
            log.warning(warning)
        ports = {
            "grpc_port": self._grpc.bind(self._service, self._health),
            "metrics_port": self._metrics_port.open(settings.host, settings.metrics_port),
        }
        await self._health.set(serving=False)
        await self._grpc.start()
        try:
            if settings.http_port is not None:
                ports["http_port"] = await self._open_http(settings.http_port)
            log.info("listening, loading %s", settings.model, extra={"event": "listening", **ports})
            loaded = await self._load()
            if loaded is None:
                log.info("stopped before the model was loaded")
                return exit_status.DRAINED
            await self._health.set(serving=True)
            if settings.stall_timeout:
                StallWatch(
                    loaded.engines, self._health, self._scoring, settings.stall_timeout, settings.stall_exit
                ).start()
            self._log_serving(ports, time.monotonic() - started)
            await self._stop.first()
            return await self._drain(loaded)
        finally:
            # Together, as either waits for its last writes.
            await asyncio.gather(self._grpc.close(LAST_WRITES_SECONDS), self._close_http())
            self._metrics_port.close()

    def _log_serving(self, ports: Mapping[str, int], seconds: float) -> None:
        settings = self._settings
        completions = ""
        if "http_port" in ports:
            scheme = "http" if settings.tls_cert is None else "https"
            completions = f"completions on {scheme}://{settings.host}:{ports['http_port']}/v1, "
        log.info(
            "serving on %s:%d, %smetrics on %s://%s:%d/metrics, ready after %.2f s",
            settings.host,
            ports["grpc_port"],
            completions,
            "https" if settings.metrics_tls else "http",
            settings.host,
            ports["metrics_port"],
            seconds,
            extra={"event": "serving", **ports},
        )

    async def _open_http(self, port: int) -> int:
        """Open the HTTP port; return it."""
        # Here, because it takes a while and most servers have no such port.
        from trt_server.http.admission import admission
        from trt_server.http.application import Application
        from trt_server.http.body import BodyReader
        from trt_server.http.port import HttpPort

        settings, access = self._settings, self._access.service
        limit = self._limit("HTTP", self._max_connections, MORE_CONNECTIONS)
        admit = [] if access.tokens is None else [admission(access.tokens, self._metrics.requests.count)]
        bodies = BodyReader(self._budget, self._threads, settings.receive_timeout)
        application = Application(
            self._scoring,
            lambda: self._health.serving,
            bodies,
            self._threads,
            self._callers,
            self._metrics.requests,
            admit,
        )
        self._http = HttpPort(
            application.web_application(settings.max_request_bytes),
            access,
            limit,
            idle_seconds=settings.idle_timeout,
            last_writes_seconds=LAST_WRITES_SECONDS,
        )
        return await self._http.open(settings.host, port, "--http-port")

    async def _close_http(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _load(self) -> Loaded | None:
        """Load the model and open the service; None where a signal came before that was done."""
        loading = asyncio.create_task(
            load(self._settings, on_batch=self._metrics.engines.observe_batch, on_lost=self._lose)
        )
        stopping = asyncio.create_task(self._stop.first())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not loading.done():
            return None
        loaded = loading.result()
        self._metrics.model.describe(loaded.served)
        for engine in loaded.engines:
            labels = [device.label for device in engine.devices]
            self._metrics.engines.describe(engine.description, labels, engine.queue, engine.group.prefixes)
        self._scoring.open(loaded)
        return loaded

    async def _drain(self, loaded: Loaded) -> int:
        """Answer what was accepted, for so long as the settings allow; return the process's status."""
        await self._health.end()
        self._service.stop_reading()
        for engine in loaded.engines:
            engine.queue.drain()
        log.info("draining: accepted work is answered, new work is refused")
        try:
            await asyncio.wait_for(self._drained(loaded), self._settings.drain_timeout)
        except asyncio.TimeoutError:
            given_up = self._scoring.give_up("the server has stopped before the answer: ask another one")
            log.error(
                "stopped after --drain-timeout %g s with %d requests unanswered: status %d",
                self._settings.drain_timeout,
                given_up,
                exit_status.UNDRAINED,
            )
            return exit_status.UNDRAINED
        return exit_status.DRAINED

    async def _drained(self, loaded: Loaded) -> None:
        await self._scoring.answered()
        for engine in loaded.engines:
            await engine.group.finish()

    def _lose(self, reason: str) -> None:
        """Say NOT_SERVING, because an engine failed for good: a supervisor may start the process again."""
        log.error("not serving any more: %s", reason)
        self._health.lose()
