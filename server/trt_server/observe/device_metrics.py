"""The readings of the devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from trt_server.devices.device import Device
from trt_server.observe.prometheus import Collector, CounterMetricFamily, GaugeMetricFamily, Metric

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


class DeviceCollector(Collector):
    """Reads the devices when it is scraped; a reading that a device does not give is left out."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._devices = devices

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each reading."""
        readings = {device.label: asdict(device.read()) for device in self._devices}
        for name, text in DEVICE_READINGS.items():
            kind = CounterMetricFamily if name == "energy_joules" else GaugeMetricFamily
            family = kind(f"trt_server_device_{name}", text, labels=["device"])
            for label, reading in readings.items():
                if reading[name] is not None:
                    family.add_metric([label], reading[name])
            if family.samples:
                yield family
