"""The TensorRT that is installed, as `trt`: the only module that imports it.

Where both are installed it is TensorRT, which knows every GPU.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, installed_flavour

FLAVOUR = installed_flavour() or TENSORRT

if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = import_module(FLAVOUR.module)

VERSION = str(trt.__version__)
# In front of what it says.
TITLE = f"{FLAVOUR.title} {VERSION}"
# Its plans are for compute capabilities, made on any machine; kernels are compiled where they first run.
IS_RTX = FLAVOUR is TENSORRT_RTX

__all__ = ["FLAVOUR", "IS_RTX", "TITLE", "VERSION", "trt"]
