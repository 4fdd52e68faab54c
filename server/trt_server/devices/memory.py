"""How much memory a device has, and how much of it is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trt_server.devices.control_groups import ROOT, ControlGroup, control_groups
from trt_server.devices.device import CpuDevice, Device
from trt_server.devices.machine_memory import machine_memory

# Pages that a group gives up when its memory is short, because they can be read from their files again.
_FILE_PAGES = {1: ("total_active_file", "total_inactive_file"), 2: ("active_file", "inactive_file")}


@dataclass(frozen=True)
class Memory:
    """Memory in bytes.

    Attributes:
        total: What there is.
        free: What a process can get without taking it from others. Cached files count as free.
    """

    total: int
    free: int


def device_memory(device: Device) -> Memory | None:
    """Return the memory of a device, or None where the device does not tell."""
    if isinstance(device, CpuDevice):
        return host_memory()
    reading = device.read()
    total, used = reading.memory_total_bytes, reading.memory_used_by_all_bytes
    return None if total is None or used is None else Memory(total, max(0, total - used))


def host_memory(root: Path = ROOT) -> Memory:
    """Return the machine's memory, or what control groups leave of it.

    Args:
        root: The folder that has proc and sys.
    """
    machine = machine_memory()
    every = [Memory(machine.total, machine.available), *_limits(root)]
    return Memory(min(each.total for each in every), max(0, min(each.free for each in every)))


def _limits(root: Path) -> Iterator[Memory]:
    for group in control_groups("memory", root):
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = map(group.read, names if group.version == 1 else ("memory.max", "memory.current"))
        if limit.strip().isdigit() and used.strip().isdigit():
            yield Memory(int(limit), int(limit) - int(used) + _file_pages(group))


def _file_pages(group: ControlGroup) -> int:
    counts = dict(line.split(maxsplit=1) for line in group.read("memory.stat").splitlines())
    return sum(int(counts.get(name, 0)) for name in _FILE_PAGES[group.version])
