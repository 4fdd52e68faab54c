"""Which model is served, on which devices, and whether it is."""

from __future__ import annotations

from trt_server.loading.served_model import ServedModel
from trt_server.observe.device_metrics import DeviceCollector
from trt_server.observe.prometheus import CollectorRegistry, Gauge, Info


class ModelMetrics:
    """Tells what does not change once the model is loaded, but for its devices' readings."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._serving = Gauge(
            "trt_server_serving",
            "1 while grpc.health.v1 says SERVING; 0 while loading, draining, or once the engine is lost.",
            registry=registry,
        )
        self._model = Info("trt_server_model", "The model that is served.", registry=registry)

    def describe(self, served: ServedModel) -> None:
        """Tell of a model that was loaded, and read its devices at each scrape."""
        self._model.info(
            {"id": served.id, "architecture": served.architecture, "fingerprint": served.fingerprint}
        )
        self._registry.register(DeviceCollector(served.devices))

    def set_serving(self, serving: bool) -> None:
        """Set whether the health service says SERVING."""
        self._serving.set(serving)
