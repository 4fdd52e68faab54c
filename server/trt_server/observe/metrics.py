"""The metrics that Prometheus scrapes: every name and help text in one place.

Every counter that a ratio needs is here, so that a dashboard can compute rates of its own. A scrape waits for
nothing: the engine's thread never holds a lock that it needs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scoring.v1 import scoring_pb2 as pb
from trt_common.metrics import LATENCY_BUCKETS

from trt_server.devices.device import Device
from trt_server.engines.engine import EngineDescription
from trt_server.engines.prefix_store import PrefixStore
from trt_server.loading.served_model import ServedModel
from trt_server.observe.accounting import mfu
from trt_server.observe.prometheus import (
    Collector,
    CollectorRegistry,
    Counter,
    CounterMetricFamily,
    Gauge,
    GaugeMetricFamily,
    Histogram,
    Info,
    Metric,
)
from trt_server.rpc.byte_budget import ByteBudget
from trt_server.scheduling.queue import NOT_COMPUTED, RequestQueue
from trt_server.scheduling.stages import STAGE_NAMES

MFU_WINDOW_SECONDS = 10.0
STAGE_BUCKETS = (
    *(float(f"{base}e{exponent}") for exponent in range(-6, -4) for base in (1, 2.5, 5)),
    *LATENCY_BUCKETS,
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
DEVICE_READINGS = {
    "memory_used_bytes": "Memory in use by this process on the device.",
    "memory_peak_bytes": "The most memory this process held on the device.",
    "memory_total_bytes": "Memory of the device.",
    "memory_used_by_all_bytes": "Memory in use by every process on the device.",
    "power_watts": "Power the device draws.",
    "energy_joules": "Energy the device has used.",
    "temperature_celsius": "Temperature of the device.",
    "sm_clock_hertz": "Clock of the streaming multiprocessors.",
    "memory_clock_hertz": "Clock of the device's memory.",
}
TOKEN_KINDS = ("logical", "computed", "padding")
STAGES = (*STAGE_NAMES, "total")
CODES = (
    "OK",
    "CANCELLED",
    "INVALID_ARGUMENT",
    "OUT_OF_RANGE",
    "NOT_FOUND",
    "UNAUTHENTICATED",
    "UNIMPLEMENTED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "INTERNAL",
)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = r = CollectorRegistry()
        self._clock = clock
        self._windows: dict[tuple[str, str], _MfuWindow] = {}
        self._peaks: dict[str, float] = {}
        self._queues: dict[str, RequestQueue] = {}
        self._serving = Gauge(
            "trt_server_serving",
            "1 while grpc.health.v1 says SERVING; 0 while loading, draining, or once the engine is lost.",
            registry=r,
        )
        self._requests = Counter(
            "trt_server_requests", "Requests answered, by gRPC status code.", ["code"], registry=r
        )
        for code in CODES:
            # From 0, or a rate would miss the first of its kind.
            self._requests.labels(code)
        self._tokens = Counter(
            "trt_server_tokens",
            "Tokens: logical (asked for), computed (run by the engine), padding (run and thrown away).",
            ["engine", "device", "kind"],
            registry=r,
        )
        self._flops = Counter(
            "trt_server_flops",
            "Floating-point operations of computed tokens.",
            ["engine", "device"],
            registry=r,
        )
        self._core = Counter(
            "trt_server_core_seconds",
            "Seconds of the engine's compute alone, on each device.",
            ["engine", "device"],
            registry=r,
        )
        self._stage = Histogram(
            "trt_server_stage_seconds",
            "Seconds of a request in each stage.",
            ["engine", "stage"],
            buckets=STAGE_BUCKETS,
            registry=r,
        )
        self._batch = Histogram(
            "trt_server_batch_size",
            "Prompts in a batch the engine ran.",
            ["engine"],
            buckets=BATCH_BUCKETS,
            registry=r,
        )
        self._depth = Gauge(
            "trt_server_queue_depth", "Requests waiting for the engine.", ["engine"], registry=r
        )
        self._limit = Gauge(
            "trt_server_queue_limit", "Requests that may wait for the engine.", ["engine"], registry=r
        )
        self._memory = Gauge(
            "trt_server_request_memory_bytes",
            "Memory that requests take, from their first byte to their answer.",
            registry=r,
        )
        self._memory_limit = Gauge(
            "trt_server_request_memory_limit_bytes", "Memory that requests may take.", registry=r
        )
        r.register(_NotComputedCollector(self._queues))
        self._prefixes = Gauge(
            "trt_server_prefix_cache_bytes",
            "Device memory that shared prefixes take.",
            ["engine", "device"],
            registry=r,
        )
        self._prefixes_limit = Gauge(
            "trt_server_prefix_cache_limit_bytes",
            "Device memory that shared prefixes may take.",
            ["engine", "device"],
            registry=r,
        )
        self._peak = Gauge(
            "trt_server_peak_flops",
            "FLOP/s of the device that MFU is a share of; of a peak that is measured the largest so far.",
            ["engine", "device", "source"],
            registry=r,
        )
        self._least_peak = Gauge(
            "trt_server_peak_least_flops",
            "FLOP/s that the least of the peak's measurements gave; absent where it is known without.",
            ["engine", "device"],
            registry=r,
        )
        self._peak_measurements = Gauge(
            "trt_server_peak_measurements",
            "How often the peak was measured; absent where it is known without.",
            ["engine", "device"],
            registry=r,
        )
        self._peak_contended = Gauge(
            "trt_server_peak_contended",
            "1 where other processes had the cores whenever the peak was measured: MFU is too high; absent "
            "where it is known without.",
            ["engine", "device"],
            registry=r,
        )
        self._mfu = Gauge(
            "trt_server_mfu_ratio",
            f"Model FLOPs utilization: FLOPs / (core seconds x peak) over the last {MFU_WINDOW_SECONDS:g} s.",
            ["engine", "device"],
            registry=r,
        )
        self._connections = Gauge(
            "trt_server_connections", "Connections that a port holds.", ["port"], registry=r
        )
        self._connections_limit = Gauge(
            "trt_server_connections_limit", "Connections that a port may hold.", ["port"], registry=r
        )
        self._certificate_expiry = Gauge(
            "trt_server_certificate_expiry_timestamp_seconds",
            "When the server's certificate expires, and the first of its clients' authorities.",
            ["of"],
            registry=r,
        )
        self._model = Info("trt_server_model", "The model that is served.", registry=r)
        self._engine = Info("trt_server_engine", "The engines that compute.", ["engine"], registry=r)

    def describe_model(self, served: ServedModel) -> None:
        """Set what does not change once the model is loaded, and read its devices at each scrape."""
        self._model.info(
            {"id": served.id, "architecture": served.architecture, "fingerprint": served.fingerprint}
        )
        self.registry.register(_DeviceCollector(served.devices))

    def describe_engine(
        self,
        engine: EngineDescription,
        devices: Sequence[str],
        queue: RequestQueue,
        prefixes: Sequence[PrefixStore[Any] | None],
    ) -> None:
        """Set what does not change of an engine, start its counters at 0, and read its queue at each scrape.

        Args:
            engine: What it is.
            devices: The labels of the devices that it computes on.
            queue: The one that it is fed from.
            prefixes: The prefix store on each of the devices; None: it keeps none.
        """
        self._engine.labels(engine.name).info(
            {
                "version": engine.version,
                "precision": engine.precision,
                "device": engine.device,
                "fingerprint": engine.fingerprint,
            }
        )
        self._depth.labels(engine.name).set_function(lambda: queue.depth)
        self._limit.labels(engine.name).set(queue.limit)
        self._queues[engine.name] = queue
        for stage in STAGES:
            self._stage.labels(engine.name, stage)
        self._batch.labels(engine.name)
        self.set_peak(engine, devices)
        for device, store in zip(devices, prefixes, strict=True):
            self._describe_on(device, engine, store)

    def _describe_on(self, device: str, engine: EngineDescription, store: PrefixStore[Any] | None) -> None:
        window = _MfuWindow(self._clock)
        self._windows[engine.name, device] = window
        self._mfu.labels(engine.name, device).set_function(lambda: window.ratio(self._peaks[engine.name]))
        for kind in TOKEN_KINDS:
            self._tokens.labels(engine.name, device, kind)
        for metric in (self._flops, self._core):
            metric.labels(engine.name, device)
        if store is not None:
            self._prefixes.labels(engine.name, device).set_function(lambda: store.used_bytes)
            self._prefixes_limit.labels(engine.name, device).set(store.limit_bytes)

    def set_peak(self, engine: EngineDescription, devices: Sequence[str]) -> None:
        """Set the peak of each of the engine's devices to the one that the description has now."""
        peak = engine.peak
        self._peaks[engine.name] = peak.flops_per_second
        for device in devices:
            self._peak.labels(engine.name, device, peak.source).set(peak.flops_per_second)
            if peak.measured is not None:
                self._least_peak.labels(engine.name, device).set(peak.measured.least_flops_per_second)
                self._peak_measurements.labels(engine.name, device).set(peak.measured.count)
                self._peak_contended.labels(engine.name, device).set(peak.measured.contended)

    def describe_budget(self, budget: ByteBudget) -> None:
        """Read at each scrape how much memory requests take, and tell how much they may."""
        self._memory.set_function(lambda: budget.used)
        self._memory_limit.set(budget.limit)

    def describe_port(self, port: str, most: int, held: Callable[[], int]) -> None:
        """Set how many connections a port may hold, and read at each scrape how many it holds.

        Args:
            port: Its name.
            most: Its limit.
            held: Returns how many it holds.
        """
        self._connections_limit.labels(port).set(most)
        self._connections.labels(port).set_function(held)

    def describe_certificates(self, expiries: Callable[[], Mapping[str, float]]) -> None:
        """Read at each scrape when certificates expire.

        Args:
            expiries: Returns that in seconds since 1970, by what the certificate is for.
        """

        def watch(name: str) -> None:
            self._certificate_expiry.labels(name).set_function(lambda: expiries()[name])

        for name in expiries():
            watch(name)

    def set_serving(self, serving: bool) -> None:
        """Set whether the health service says SERVING."""
        self._serving.set(serving)

    def count_request(self, code: str) -> None:
        """Count a request that was answered with this gRPC status code."""
        self._requests.labels(code).inc()

    def observe_batch(self, engine: str, prompts: int) -> None:
        """Count a batch that an engine ran, from any thread.

        Args:
            engine: The engine's name.
            prompts: How many were in the batch.
        """
        self._batch.labels(engine).observe(prompts)

    def observe(self, engine: str, device: str, response: pb.ScoreResponse) -> None:
        """Count a request that was scored.

        Args:
            engine: The name of the engine that computed it.
            device: The label of the device.
            response: What the request is answered with.
        """
        logical = sum(score.tokens.logical for score in response.scores)
        computed = sum(score.tokens.computed for score in response.scores)
        flops = sum(score.flops for score in response.scores)
        core_seconds = response.timing.core_ns / 1e9
        padding = response.batch.padding_tokens
        for kind, tokens in zip(TOKEN_KINDS, (logical, computed, padding), strict=True):
            self._tokens.labels(engine, device, kind).inc(tokens)
        self._flops.labels(engine, device).inc(flops)
        self._core.labels(engine, device).inc(core_seconds)
        for stage in STAGES:
            self._stage.labels(engine, stage).observe(getattr(response.timing, f"{stage}_ns") / 1e9)
        self._windows[engine, device].add(flops, core_seconds)


class _MfuWindow:
    """Holds FLOPs and core seconds of the requests of the last MFU_WINDOW_SECONDS."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: deque[tuple[float, int, float]] = deque()

    def add(self, flops: int, core_seconds: float) -> None:
        now = self._clock()
        self._entries.append((now, flops, core_seconds))
        while self._entries[0][0] < now - MFU_WINDOW_SECONDS:
            self._entries.popleft()

    def ratio(self, peak: float) -> float:
        """Return the MFU; 0 where nothing was computed lately, or the peak (FLOP/s) is not known."""
        since = self._clock() - MFU_WINDOW_SECONDS
        recent = [entry for entry in list(self._entries) if entry[0] >= since]
        core_seconds = sum(entry[2] for entry in recent)
        return mfu(sum(entry[1] for entry in recent), core_seconds, peak) if core_seconds and peak else 0.0


class _NotComputedCollector(Collector):
    """Reads the queues, by the name of their engine, when it is scraped."""

    def __init__(self, queues: Mapping[str, RequestQueue]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "trt_server_requests_not_computed",
            "Requests kept from the engine: refused_late or dropped_late (their deadline could not be met), "
            "abandoned (their caller had left), displaced (by a caller with fewer of them in the queue).",
            labels=["engine", "reason"],
        )
        for engine, queue in list(self._queues.items()):
            for reason in NOT_COMPUTED:
                family.add_metric([engine, reason], queue.not_computed[reason])
        yield family


class _DeviceCollector(Collector):
    """Reads the devices when it is scraped; a reading that a device does not give is left out."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        readings = {device.label: asdict(device.read()) for device in self._devices}
        for name, text in DEVICE_READINGS.items():
            kind = CounterMetricFamily if name == "energy_joules" else GaugeMetricFamily
            family = kind(f"trt_server_device_{name}", text, labels=["device"])
            for label, reading in readings.items():
                if reading[name] is not None:
                    family.add_metric([label], reading[name])
            if family.samples:
                yield family
