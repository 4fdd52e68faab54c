"""Readings of an NVIDIA device through NVML, the library behind nvidia-smi."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from trt_server.devices.device import Device, DeviceReading, gpu_label

log = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass
class NamedDevice:
    """A device that tells nothing but its name."""

    name: str
    ordinal: int

    @property
    def label(self) -> str:
        """Its name and number."""
        return gpu_label(self.name, self.ordinal)

    def read(self) -> DeviceReading:
        """Return a reading that holds nothing."""
        return DeviceReading()


class NvmlDevice:
    """One NVIDIA device. MIG slices, small cards and containers leave some readings out."""

    def __init__(self, nvml: Any, handle: Any, ordinal: int) -> None:
        """Open the device.

        Args:
            nvml: The module pynvml, initialised.
            handle: NVML's handle of the device.
            ordinal: CUDA's number of the device.
        """
        self._nvml, self._handle = nvml, handle
        self._peak_bytes: int | None = None
        self.name = str(nvml.nvmlDeviceGetName(handle))
        self.ordinal = ordinal

    @property
    def label(self) -> str:
        """Its name and number."""
        return gpu_label(self.name, self.ordinal)

    def read(self) -> DeviceReading:
        """Return its readings at this moment.

        The peak of this process's memory is the most that any reading found: an engine holds its memory from
        its start on.
        """
        nvml = self._nvml
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        used = self._process_bytes()
        if used is not None:
            self._peak_bytes = max(used, self._peak_bytes or 0)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage)
        millijoules = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        celsius = self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        return DeviceReading(
            memory_used_bytes=used,
            memory_peak_bytes=self._peak_bytes,
            memory_total_bytes=None if memory is None else memory.total,
            memory_used_by_all_bytes=None if memory is None else memory.used,
            power_watts=None if milliwatts is None else milliwatts / 1e3,
            energy_joules=None if millijoules is None else millijoules / 1e3,
            temperature_celsius=None if celsius is None else float(celsius),
            sm_clock_hertz=self._clock(nvml.NVML_CLOCK_SM),
            memory_clock_hertz=self._clock(nvml.NVML_CLOCK_MEM),
            id=self._ask(nvml.nvmlDeviceGetUUID),
        )

    def _clock(self, kind: int) -> float | None:
        megahertz = self._ask(self._nvml.nvmlDeviceGetClockInfo, kind)
        return None if megahertz is None else megahertz * 1e6

    def _process_bytes(self) -> int | None:
        """Return the bytes that this process holds, or None where NVML does not tell.

        In a container NVML knows processes by the host's numbers. Where just one is on the device, it is this
        one, which has an engine there.
        """
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses) or []
        own = [process for process in processes if process.pid == os.getpid()] or processes
        if len(own) != 1 or own[0].usedGpuMemory is None:
            return None
        return int(own[0].usedGpuMemory)

    def _ask(self, question: Callable[..., Value], *arguments: Any) -> Value | None:
        with suppress(self._nvml.NVMLError):
            return question(self._handle, *arguments)
        return None


def gpu_device(name: str, pci_bus_id: str | None = None, ordinal: int = 0) -> Device:
    """Return a device that reads through NVML, or one that has a name alone where NVML is not there.

    Args:
        name: What the device is called.
        pci_bus_id: Its PCI address; None: it is found by `ordinal`.
        ordinal: CUDA's number of the device, among those that CUDA_VISIBLE_DEVICES shows.
    """
    try:
        import pynvml
    except ImportError:
        log.warning("no readings of %s: pip install nvidia-ml-py", name)
        return NamedDevice(name, ordinal)
    try:
        pynvml.nvmlInit()
        return NvmlDevice(pynvml, _handle(pynvml, pci_bus_id, ordinal), ordinal)
    except pynvml.NVMLError as error:
        log.warning("no readings of %s: NVML says %s", name, error)
        return NamedDevice(name, ordinal)


def _handle(nvml: Any, pci_bus_id: str | None, ordinal: int) -> Any:
    if pci_bus_id is not None:
        return nvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = str(ordinal) if visible is None else visible.split(",")[ordinal].strip()
    if shown.isdigit():
        # NVML's order, which is CUDA's too under CUDA_DEVICE_ORDER=PCI_BUS_ID.
        return nvml.nvmlDeviceGetHandleByIndex(int(shown))
    return nvml.nvmlDeviceGetHandleByUUID(_whole_uuid(nvml, shown))


def _whole_uuid(nvml: Any, start: str) -> str:
    """Return the UUID that begins so: CUDA takes any beginning that only one device has."""
    for index in range(nvml.nvmlDeviceGetCount()):
        uuid = str(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(index)))
        if uuid.startswith(start):
            return uuid
    return start
