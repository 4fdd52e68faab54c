"""When this process began: before its interpreter ran, and long before the first line of this program."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Of /proc/self/stat, counted from the field after the name: starttime, in ticks since the machine's boot.
START_TICKS = 19


def process_started() -> float:
    """Seconds on the monotonic clock, a hundredth early at the most; now, where the system does not tell."""
    try:
        age = _age()
    except (OSError, ValueError, IndexError, ImportError):
        age = 0.0
    return time.monotonic() - max(0.0, age)


def _age() -> float:
    if sys.platform == "linux":
        # psutil knows Linux's time of boot to a second only.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        ticks = int(fields[START_TICKS])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - psutil.Process().create_time()
