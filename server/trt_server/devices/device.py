"""Readings of the device that an engine computes on."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import psutil

from trt_server.devices.cores import part_of_the_cores


@dataclass(frozen=True)
class DeviceReading:
    """None where the device does not tell. Memory used and its peak are this process's, used_by_all is that
    of every process on the device. Energy is a counter: only differences mean something. id: equal where two
    servers share the device. part: what this one may use of it, None for all."""

    memory_used_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_used_by_all_bytes: int | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    id: str | None = None
    part: str | None = None


def _of_one_alone(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else None


# What devices have together: of a temperature the hottest, of a clock the slowest, of all else the sum.
_TOGETHER: dict[str, Callable[[Sequence[Any]], Any]] = {
    "id": _of_one_alone,
    "part": _of_one_alone,
    "temperature_celsius": max,
    "sm_clock_hertz": min,
    "memory_clock_hertz": min,
}


class Device(Protocol):
    """ordinal: CUDA's number of a GPU; 0 for the CPU. label: name and number, one of its own in a server."""

    name: str
    ordinal: int

    @property
    def label(self) -> str: ...

    def read(self) -> DeviceReading: ...


def gpu_label(name: str, ordinal: int) -> str:
    return f"{name} cuda:{ordinal}"


def together(readings: Sequence[DeviceReading]) -> DeviceReading:
    """One reading of several devices; absent what one of them does not tell."""
    return DeviceReading(**{field.name: _together(field.name, readings) for field in fields(DeviceReading)})


def _together(field: str, readings: Sequence[DeviceReading]) -> Any:
    values = [getattr(reading, field) for reading in readings]
    return None if None in values else _TOGETHER.get(field, sum)(values)


class CpuDevice:
    """The processor: memory is this process's resident set, out of the machine's."""

    ordinal = 0

    def __init__(self) -> None:
        self.name = processor_name()
        self._id = _boot_id()
        self._process = psutil.Process()

    @property
    def label(self) -> str:
        return self.name

    def read(self) -> DeviceReading:
        return DeviceReading(
            memory_used_bytes=self._process.memory_info().rss,
            memory_peak_bytes=_peak_resident_bytes(),
            memory_total_bytes=psutil.virtual_memory().total,
            memory_used_by_all_bytes=psutil.virtual_memory().used,
            id=self._id,
            part=part_of_the_cores(),
        )


def processor_name() -> str:
    """The processor as the kernel names it, with the cores this machine has."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (
        match := re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
    ):
        name = match[1].strip()
    return f"{name} ({psutil.cpu_count()} cores)"


def _boot_id() -> str:
    """The same in all containers of a machine; where the kernel has none, the machine's name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text(encoding="utf-8").strip() if boot.is_file() else platform.node()


def _peak_resident_bytes() -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    match = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
