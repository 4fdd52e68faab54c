"""The engines: what they are, what they compute, and the share of their peaks that this is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scoring.v1 import scoring_pb2 as pb

from trt_server.engines.engine import EngineDescription
from trt_server.engines.prefix_store import PrefixStore
from trt_server.observe.mfu_window import MFU_WINDOW_SECONDS, MfuWindow
from trt_server.observe.peak_metrics import PeakMetrics
from trt_server.observe.prefix_metrics import PrefixMetrics
from trt_server.observe.prometheus import CollectorRegistry, Gauge, Info
from trt_server.observe.queue_metrics import QueueMetrics
from trt_server.observe.work_metrics import WorkMetrics
from trt_server.scheduling.queue import RequestQueue


class EngineMetrics:
    """Counts and times what each engine computes, on each of its devices."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        """Tell of no engine yet.

        Args:
            registry: What is scraped.
            clock: Returns seconds, for the window of MFU.
        """
        self._clock = clock
        self._work = WorkMetrics(registry)
        self._queues = QueueMetrics(registry)
        self._prefixes = PrefixMetrics(registry)
        self._peaks = PeakMetrics(registry)
        self._windows: dict[tuple[str, str], MfuWindow] = {}
        self._mfu = Gauge(
            "trt_server_mfu_ratio",
            f"Model FLOPs utilization: FLOPs / (core seconds x peak) over the last {MFU_WINDOW_SECONDS:g} s.",
            ["engine", "device"],
            registry=registry,
        )
        self._engine = Info("trt_server_engine", "The engines that compute.", ["engine"], registry=registry)

    def describe(
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
        self._queues.describe(engine.name, queue)
        self._work.begin(engine.name, devices)
        self._peaks.set(engine, devices)
        for device, store in zip(devices, prefixes, strict=True):
            self._describe_mfu(engine.name, device)
            if store is not None:
                self._prefixes.describe(engine.name, device, store)

    def _describe_mfu(self, engine: str, device: str) -> None:
        window = MfuWindow(self._clock)
        self._windows[engine, device] = window
        self._mfu.labels(engine, device).set_function(lambda: window.ratio(self._peaks.of(engine)))

    def set_peak(self, engine: EngineDescription, devices: Sequence[str]) -> None:
        """Set the peak of each of the engine's devices to the one that the description has now."""
        self._peaks.set(engine, devices)

    def observe_batch(self, engine: str, prompts: int) -> None:
        """Count a batch that an engine ran, from any thread.

        Args:
            engine: The engine's name.
            prompts: How many were in the batch.
        """
        self._work.observe_batch(engine, prompts)

    def observe(self, engine: str, device: str, response: pb.ScoreResponse) -> None:
        """Count a request that was scored.

        Args:
            engine: The name of the engine that computed it.
            device: The label of the device.
            response: What the request is answered with.
        """
        flops, core_seconds = self._work.observe(engine, device, response)
        self._windows[engine, device].add(flops, core_seconds)
