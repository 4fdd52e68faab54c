"""The time at which this process was started, before its interpreter ran."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# The field starttime of /proc/self/stat, counted from the field after the name: ticks since the boot.
START_TICKS = 19


def process_started() -> float:
    """Return when the process was started, in seconds on the monotonic clock.

    It may be a hundredth of a second early. Where the system does not tell, it is now.
    """
    try:
        age = _age()
    except (OSError, ValueError, IndexError, ImportError):
        age = 0.0
    return time.monotonic() - max(0.0, age)


def _age() -> float:
    if sys.platform == "linux":
        # psutil knows the time of Linux's boot only to the second.
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        ticks = int(fields[START_TICKS])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - psutil.Process().create_time()
