"""The GPU that is measured: the one that TensorRT uses where none is named."""

from __future__ import annotations

from trt_server.devices.gpu import Gpu
from trt_server.engines.tensorrt.presence import Missing, find_gpus


def find_gpu() -> Gpu | Missing:
    """Return the first GPU in CUDA's order, or what is missing."""
    found = find_gpus()
    return found if isinstance(found, Missing) else found[0]
