"""The server's process: it listens, loads the model, serves, drains and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from scoring.v1 import scoring_pb2 as pb
from scoring.v1 import scoring_pb2_grpc as pb_grpc

from trt_server import exit_status
from trt_server.access.access import access_warning, read_access
from trt_server.connections.descriptors import connections_that_fit
from trt_server.connections.grpc_watch import watch_grpc
from trt_server.connections.limit import ConnectionLimit
from trt_server.http.metrics_port import MetricsPort
from trt_server.loading.loading import Loaded, load
from trt_server.observe.metrics import Metrics
from trt_server.request_memory.byte_budget import ByteBudget
from trt_server.request_memory.cost import MESSAGE_COPIES
from trt_server.rpc.admission import Admission
from trt_server.rpc.arrivals import Arrivals
from trt_server.rpc.caller import Callers
from trt_server.rpc.door import Door
from trt_server.rpc.endpoints import bind_grpc, grpc_options
from trt_server.rpc.receiving import Receiving
from trt_server.rpc.scoring import Scoring
from trt_server.rpc.service import ScoringService
from trt_server.scheduling.watchdog import Watchdog
from trt_server.settings import Settings
from trt_server.threads.step_threads import StepThreads

if TYPE_CHECKING:
    from trt_server.http.port import HttpPort

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Scoring"].full_name
SCORING_METHODS = frozenset({f"/{SERVICE_NAME}/Score", f"/{SERVICE_NAME}/StreamScore"})
# For texts and large messages: two, so that a large one does not hold up all others.
STEP_THREADS = 2
# Calls of other methods whose requests are received at once.
SMALL_PLACES = 16
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# For replies that are computed and on their way out when the server stops.
LAST_WRITES_SECONDS = 5.0
QUIET_SECONDS = 0.2
# For errors that callers are told when the process ends whatever its event loop does.
LAST_WORDS_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
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
        self._callers = Callers(by_token=self._access.service.tokens is not None)
        self._service = ScoringService(self._scoring, self._budget, self._callers)
        self._health = health.aio.HealthServicer()
        self._serving = False
        self._draining = False
        self._is_lost = False
        self._arrivals = Arrivals()
        self._http: HttpPort | None = None
        self._stop = asyncio.Event()
        if (certificates := self._access.service.certificates) is not None:
            self._metrics.ports.describe_certificates(lambda: certificates.expiries)
        ports = 1 if settings.http_port is None else 2
        self._max_connections = connections_that_fit(settings.max_connections, ports, METRICS_CONNECTIONS)
        self._grpc_limit = ConnectionLimit("gRPC", self._max_connections, MORE_CONNECTIONS)
        self._metrics.ports.describe("grpc", self._max_connections, lambda: self._grpc_limit.held)
        metrics_limit = ConnectionLimit("metrics", METRICS_CONNECTIONS)
        self._metrics_port = MetricsPort(self._metrics.registry, self._access.metrics, metrics_limit)
        self._metrics.ports.describe("metrics", METRICS_CONNECTIONS, lambda: metrics_limit.held)
        self._grpc = aio.server(
            options=grpc_options(settings, self._max_connections),
            interceptors=self._interceptors(),
        )
        pb_grpc.add_ScoringServicer_to_server(self._service, self._grpc)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if not settings.no_reflection:
            names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._grpc)

    def _interceptors(self) -> list[aio.ServerInterceptor]:
        """Return what a call passes before its method, the first first: strangers are not received."""
        tokens = self._access.service.tokens
        admission = [] if tokens is None else [Admission(tokens, self._metrics.requests.count)]
        return [*admission, self._arrivals, self._door()]

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
        self._loop = asyncio.get_running_loop()
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
                return exit_status.DRAINED
            await self._set_health(SERVING)
            self._watch(loaded)
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
            return await self._drain(loaded)
        finally:
            watching.cancel()
            # Together, as either waits for its last writes.
            await asyncio.gather(self._close_grpc(), self._close_http())
            self._metrics_port.close()

    async def _open_http(self, port: int) -> int:
        """Open the HTTP port; return it."""
        # Here, because it takes a while and most servers have no such port.
        from trt_server.http.admission import admission
        from trt_server.http.application import Application
        from trt_server.http.body import BodyReader
        from trt_server.http.port import HttpPort

        settings, access = self._settings, self._access.service
        limit = ConnectionLimit("HTTP", self._max_connections, MORE_CONNECTIONS)
        admit = [] if access.tokens is None else [admission(access.tokens, self._metrics.requests.count)]
        bodies = BodyReader(self._budget, self._threads, settings.receive_timeout)
        application = Application(
            self._scoring, lambda: self._serving, bodies, self._threads, self._callers, admit
        )
        self._http = HttpPort(
            application.web_application(settings.max_request_bytes),
            access,
            limit,
            idle_seconds=settings.idle_timeout,
            last_writes_seconds=LAST_WRITES_SECONDS,
        )
        self._metrics.ports.describe("http", limit.most, lambda: limit.held)
        return await self._http.open(settings.host, port, "--http-port")

    async def _close_grpc(self) -> None:
        """Wait for the last writes; the process closes the connections, which is UNAVAILABLE to callers.

        gRPC itself would end calls that come in between, and those that stay open, with CANCELLED.
        """
        if await self._arrivals.end(QUIET_SECONDS, LAST_WRITES_SECONDS):
            stopping = asyncio.create_task(self._grpc.stop(2 * LAST_WRITES_SECONDS))
            await asyncio.wait({stopping}, timeout=LAST_WRITES_SECONDS)

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
            load(self._settings, on_batch=self._metrics.engines.observe_batch, on_lost=self._lose)
        )
        stopping = asyncio.create_task(self._stop.wait())
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
        self._draining = True
        await self._set_health(NOT_SERVING)
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

    def _watch(self, loaded: Loaded) -> None:
        """Watch for batches that never come back."""
        timeout = self._settings.stall_timeout
        if not timeout:
            return

        def stalled() -> str | None:
            reasons = (engine.group.stalled(timeout) for engine in loaded.engines)
            return next((reason for reason in reasons if reason is not None), None)

        loop = asyncio.get_running_loop()

        def on_stall(reason: str) -> None:
            loop.call_soon_threadsafe(self._stall, loaded, reason)

        def on_recovery() -> None:
            loop.call_soon_threadsafe(self._recover, loaded)

        Watchdog(
            stalled, timeout, self._settings.stall_exit, on_stall, on_recovery, self._end_stalled
        ).start()

    def _stall(self, loaded: Loaded, reason: str) -> None:
        """Take no work while a batch does not come back."""
        log.error(
            "not serving: %s; if that does not end, the process does in %g s, with status %d",
            reason,
            self._settings.stall_exit,
            exit_status.STALLED,
        )
        for engine in loaded.engines:
            engine.queue.refuse(f"the engine does not answer: {reason}")
        self._changing = asyncio.create_task(self._set_health(NOT_SERVING))

    def _recover(self, loaded: Loaded) -> None:
        """Take work again, as the batch has come back after all."""
        if self._draining or self._is_lost:
            return
        log.warning("serving again: the batch has come back")
        for engine in loaded.engines:
            engine.queue.refuse(None)
        self._changing = asyncio.create_task(self._set_health(SERVING))

    def _end_stalled(self, reason: str) -> None:
        """Tell the callers that wait, and end the process, in the watchdog's thread."""
        log.critical("ended with status %d: %s", exit_status.STALLED, reason)
        self._loop.call_soon_threadsafe(self._scoring.give_up, f"the server ends: {reason}: ask another one")
        # The event loop may hang too.
        time.sleep(LAST_WORDS_SECONDS)
        exit_status.leave(exit_status.STALLED)

    def _lose(self, reason: str) -> None:
        """Say NOT_SERVING, because an engine failed for good: a supervisor may start the process again."""
        self._is_lost = True
        log.error("not serving any more: %s", reason)
        self._changing = asyncio.create_task(self._set_health(NOT_SERVING))

    async def _set_health(self, status: int) -> None:
        self._serving = status == SERVING
        self._metrics.model.set_serving(self._serving)
        for name in ("", SERVICE_NAME):
            await self._health.set(name, status)

    def _catch_signals(self) -> None:
        """Drain at the first signal, and end the process at once at the second."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # What `nohup` has the process ignore stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                # Not the loop's, which may be busy.
                asyncio.get_running_loop().remove_signal_handler(number)
                signal.signal(number, _end_at_once)
        self._stop.set()


def _end_at_once(number: int, _: object) -> None:
    os._exit(exit_status.of_signal(number))
