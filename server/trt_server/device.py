"""Readings of the device that an engine computes on."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil


@dataclass(frozen=True)
class DeviceReading:
    """None where the device does not tell. Memory used and its peak are this process's, used_by_all is that
    of every process on the device. Energy is a counter: only differences mean something."""

    memory_used_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_used_by_all_bytes: int | None = None
    power_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None


class Device(Protocol):
    name: str

    def read(self) -> DeviceReading: ...


class CpuDevice:
    """The processor: memory is this process's resident set, out of the machine's."""

    def __init__(self) -> None:
        self.name = processor_name()
        self._process = psutil.Process()

    def read(self) -> DeviceReading:
        return DeviceReading(
            memory_used_bytes=self._process.memory_info().rss,
            memory_peak_bytes=_peak_resident_bytes(),
            memory_total_bytes=psutil.virtual_memory().total,
            memory_used_by_all_bytes=psutil.virtual_memory().used,
        )


def processor_name() -> str:
    """The processor as the kernel names it, with the cores this machine has."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (match := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        name = match[1].strip()
    return f"{name} ({psutil.cpu_count()} cores)"


def _peak_resident_bytes() -> int | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    match = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
