"""The installed TensorRT, as `trt`. This is the only module that imports it.

Where both libraries are installed it is TensorRT, which supports every GPU.
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
# The library's name in messages.
TITLE = f"{FLAVOUR.title} {VERSION}"
# TensorRT-RTX builds plans for compute capabilities, on any machine; kernels are compiled at their first run.
IS_RTX = FLAVOUR is TENSORRT_RTX

__all__ = ["FLAVOUR", "IS_RTX", "TITLE", "VERSION", "trt"]
