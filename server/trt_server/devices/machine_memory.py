"""The memory of the whole machine, told by the kernel in /proc, or without it where that is hidden."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class MachineMemory:
    """Memory in bytes.

    Attributes:
        total: What the machine has.
        available: What a process can get without taking it from others.
        used: By every process; None: the system does not tell.
    """

    total: int
    available: int
    used: int | None


# What psutil raises where files of /proc are absent, empty or may not be read.
HIDDEN = (psutil.Error, OSError, LookupError, TypeError, ValueError)


def machine_memory() -> MachineMemory:
    """Return it as it is now. Without /proc, memory that holds cached files does not count as available."""
    try:
        memory = psutil.virtual_memory()
    except HIDDEN:
        page = os.sysconf("SC_PAGE_SIZE")
        return MachineMemory(
            os.sysconf("SC_PHYS_PAGES") * page, os.sysconf("SC_AVPHYS_PAGES") * page, used=None
        )
    return MachineMemory(memory.total, memory.available, memory.used)
