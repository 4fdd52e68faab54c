"""A machine with TensorRT and a GPU, as far as a process can tell: the environment for one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parent / "fakes" / "gpu"
# One version of each way that TensorRT's API has been.
GENERATIONS = ("8.6.1", "10.3.0", "10.16.1", "11.4.0")


def gpu_machine(cache: Path, **wishes: Any) -> dict[str, str]:
    """Environment variables; wishes are the fields of fakes/gpu/fake_gpu.py's Wishes."""
    path = os.pathsep.join(part for part in (str(FAKES), os.environ.get("PYTHONPATH")) if part)
    return {"PYTHONPATH": path, "FAKE_GPU": json.dumps(wishes), "TRT_SERVER_CACHE": str(cache)}
