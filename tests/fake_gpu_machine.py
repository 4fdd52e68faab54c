"""A machine with TensorRT and a GPU, as far as a process can tell: the environment for one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parent / "fakes"
# One version of each way that TensorRT runs a plan, and TensorRT-RTX's.
RTX = "1.7.1.116"
GENERATIONS = ("8.6.1", "10.9.0", RTX)


def gpu_machine(cache: Path, **wishes: Any) -> dict[str, str]:
    """Environment variables; wishes are the fields of fakes/gpu/fake_gpu.py's Wishes."""
    library = "tensorrt_rtx" if wishes.get("tensorrt") == RTX else "tensorrt"
    parts = (str(FAKES / "gpu"), str(FAKES / library), os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(part for part in parts if part)
    return {
        "PYTHONPATH": path,
        "FAKE_GPU": json.dumps(wishes),
        "TRT_SERVER_CACHE": str(cache),
        "TRT_SERVER_ENGINE": "auto",
        # That of its data sheet.
        "TRT_SERVER_PEAK_FLOPS": "",
    }
