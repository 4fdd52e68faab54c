"""The peaks of devices, which MFU is a share of, and how they were measured."""

from __future__ import annotations

from collections.abc import Sequence

from trt_server.engines.engine import EngineDescription
from trt_server.observe.prometheus import CollectorRegistry, Gauge

ENGINE_ON_DEVICE = ("engine", "device")


class PeakMetrics:
    """Tells the peaks as they are known now."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._peaks: dict[str, float] = {}
        self._peak = Gauge(
            "trt_server_peak_flops",
            "FLOP/s of the device that MFU is a share of; of a peak that is measured the largest so far.",
            [*ENGINE_ON_DEVICE, "source"],
            registry=registry,
        )
        self._least = Gauge(
            "trt_server_peak_least_flops",
            "FLOP/s that the least of the peak's measurements gave; absent where it is known without.",
            ENGINE_ON_DEVICE,
            registry=registry,
        )
        self._measurements = Gauge(
            "trt_server_peak_measurements",
            "How often the peak was measured; absent where it is known without.",
            ENGINE_ON_DEVICE,
            registry=registry,
        )
        self._contended = Gauge(
            "trt_server_peak_contended",
            "1 where other processes had the cores whenever the peak was measured: MFU is too high; absent "
            "where it is known without.",
            ENGINE_ON_DEVICE,
            registry=registry,
        )

    def of(self, engine: str) -> float:
        """Return that of a device of an engine, in FLOP/s; 0: it is not known."""
        return self._peaks[engine]

    def set(self, engine: EngineDescription, devices: Sequence[str]) -> None:
        """Set the peak of each of the engine's devices to the one that the description has now."""
        peak = engine.peak
        self._peaks[engine.name] = peak.flops_per_second
        for device in devices:
            self._peak.labels(engine.name, device, peak.source).set(peak.flops_per_second)
            if peak.measured is not None:
                self._least.labels(engine.name, device).set(peak.measured.least_flops_per_second)
                self._measurements.labels(engine.name, device).set(peak.measured.count)
                self._contended.labels(engine.name, device).set(peak.measured.contended)
