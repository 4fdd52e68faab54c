"""Readings of the device that an engine computes on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import psutil

from trt_server.devices.control_groups import read_or_nothing
from trt_server.devices.cores import part_of_the_cores
from trt_server.devices.machine_memory import HIDDEN, machine_memory


@dataclass(frozen=True)
class DeviceReading:
    """What a device tells of itself at one time; None: it does not tell.

    Attributes:
        memory_used_bytes: Used by this process.
        memory_peak_bytes: The most that this process has used.
        memory_total_bytes: What the device has.
        memory_used_by_all_bytes: Used by every process on the device.
        power_watts: What it draws now.
        energy_joules: A counter, of which only differences mean something.
        temperature_celsius: Its temperature now.
        sm_clock_hertz: The clock of the streaming multiprocessors now.
        memory_clock_hertz: The clock of its memory now.
        id: Equal where two servers share the device.
        part: Which part of the device this process may use; None: all of it.
    """

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


# How the readings of several devices become one: the highest temperature, the lowest clock, else the sum.
_TOGETHER: dict[str, Callable[[Sequence[Any]], Any]] = {
    "id": _of_one_alone,
    "part": _of_one_alone,
    "temperature_celsius": max,
    "sm_clock_hertz": min,
    "memory_clock_hertz": min,
}


class Device(Protocol):
    """A device that an engine computes on.

    Attributes:
        name: As its driver or the kernel gives it.
        ordinal: CUDA's number of a GPU; 0 for the CPU.
    """

    name: str
    ordinal: int

    @property
    def label(self) -> str:
        """Its name and number, which no other device of the server has."""
        ...

    def read(self) -> DeviceReading:
        """Return its readings at this moment."""
        ...


def gpu_label(name: str, ordinal: int) -> str:
    """Return the label of a GPU, by CUDA's number of it."""
    return f"{name} cuda:{ordinal}"


def together(readings: Sequence[DeviceReading]) -> DeviceReading:
    """Return one reading of several devices, without what one of them does not tell."""
    return DeviceReading(**{field.name: _together(field.name, readings) for field in fields(DeviceReading)})


def _together(field: str, readings: Sequence[DeviceReading]) -> Any:
    values = [getattr(reading, field) for reading in readings]
    return None if None in values else _TOGETHER.get(field, sum)(values)


class CpuDevice:
    """The processor. Its memory is the machine's, of which this process uses its resident set."""

    ordinal = 0

    def __init__(self) -> None:
        self.name = processor_name()
        self._id = _boot_id()

    @property
    def label(self) -> str:
        """The processor's name: a server has one."""
        return self.name

    def read(self) -> DeviceReading:
        """Return the memory's readings, and which of the cores this process may use.

        Where /proc is hidden they are those that the system tells without it.
        """
        machine = machine_memory()
        return DeviceReading(
            memory_used_bytes=_resident_bytes(),
            memory_peak_bytes=_peak_resident_bytes(),
            memory_total_bytes=machine.total,
            memory_used_by_all_bytes=machine.used,
            id=self._id,
            part=part_of_the_cores(),
        )


def processor_name() -> str:
    """Return the processor's name as the kernel gives it, with the count of the machine's cores."""
    name = platform.processor() or platform.machine()
    info = read_or_nothing(Path("/proc/cpuinfo"))
    if match := re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE):
        name = match[1].strip()
    return f"{name} ({os.cpu_count()} cores)"


def _boot_id() -> str:
    """Return an id that all containers of a machine share; the machine's name where the kernel has none."""
    return read_or_nothing(Path("/proc/sys/kernel/random/boot_id")).strip() or platform.node()


def _resident_bytes() -> int | None:
    try:
        return int(psutil.Process().memory_info().rss)
    except HIDDEN:
        return None


def _peak_resident_bytes() -> int | None:
    status = read_or_nothing(Path("/proc/self/status"))
    match = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
