"""The fake NVML of tests/fakes, on a card that counts the energy it uses."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

globals().update(runpy.run_path(str(Path(__file__).parents[2] / "fakes" / "gpu" / "pynvml.py")))


def nvmlDeviceGetTotalEnergyConsumption(_: str) -> int:  # noqa: N802
    """Millijoules, at 250 W."""
    return int(250_000 * time.monotonic())
