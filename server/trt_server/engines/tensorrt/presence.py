"""Whether TensorRT can run here, and what is missing where it cannot."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from trt_common.one_line import one_line

from trt_server.devices.gpu import Gpu
from trt_server.engines.tensorrt.flavour import TENSORRT_RTX, installed_flavour

_DRIVER = "install NVIDIA's driver; in a container, start it with the GPU (docker run --gpus all)"


@dataclass(frozen=True)
class Missing:
    """The answer where TensorRT cannot run.

    Attributes:
        reason: What is missing and how to get it, in one line that can follow a colon.
    """

    reason: str


def find_gpus() -> tuple[Gpu, ...] | Missing:
    """Return every GPU that TensorRT can use, in CUDA's order.

    Any thread may call this: it makes no CUDA context.
    """
    flavour = installed_flavour()
    no_pycuda = find_spec("pycuda") is None
    if flavour is None:
        absent = "no TensorRT and no pycuda" if no_pycuda else "no TensorRT"
        ways = "pip install 'trt-server[tensorrt]', or for an RTX card 'trt-server[rtx]'"
        return Missing(f"{absent} in this Python; {ways}")
    if no_pycuda:
        return Missing(f"no pycuda in this Python; pip install 'trt-server[{flavour.extra}]'")
    # CUDA reads these as it starts: devices in nvidia-smi's order, kernels loaded when they are first run.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    name = "pycuda"
    try:
        import_module("pycuda.driver")
        name = flavour.title
        library = import_module("trt_server.engines.tensorrt.library")
    except ImportError as error:
        return Missing(_not_importable(name, error))
    if (why_not := flavour.why_not(library.VERSION)) is not None:
        return Missing(why_not)
    return _visible_devices()


def how_to_build_elsewhere() -> str:
    """Return how to build for a GPU elsewhere, to end a message with; empty where that needs a GPU here."""
    if installed_flavour() is not TENSORRT_RTX:
        return ""
    return "; to build for a GPU elsewhere: trt-server build --target sm89, or what it has"


def _not_importable(name: str, error: ImportError) -> str:
    text = one_line(error)
    if "libcuda.so" in text:
        return f"no NVIDIA driver ({text}); {_DRIVER}"
    return f"{name} does not load ({text}); install it again for this Python and this driver"


def _visible_devices() -> tuple[Gpu, ...] | Missing:
    import pycuda.driver as cuda

    try:
        cuda.init()
        devices = [cuda.Device(ordinal) for ordinal in range(cuda.Device.count())]
        if not devices:
            return Missing(f"no CUDA device is visible; check CUDA_VISIBLE_DEVICES, or {_DRIVER}")
        return tuple(
            Gpu(device.name(), device.pci_bus_id(), ordinal) for ordinal, device in enumerate(devices)
        )
    except cuda.Error as error:
        return Missing(
            f"no usable CUDA device ({one_line(error)}); see whether nvidia-smi shows one, or {_DRIVER}"
        )
