"""Which Python has PyTorch and transformers: the one with TensorRT may have neither."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from trt_server.engines.tensorrt.flavour import installed_flavour

_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE")


def reference_python() -> str:
    """REFERENCE_PYTHON; else this one if it has PyTorch; else the first python3 not packed with it."""
    if own := os.environ.get("REFERENCE_PYTHON"):
        return own
    if find_spec("torch"):
        return sys.executable
    return shutil.which("python3", path=_others("PATH")) or "python3"


def reference_environment() -> dict[str, str]:
    """This process's environment without what leads that Python to packages and libraries of this one's."""
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    return environment | {name: _others(name) for name in ("PATH", "LD_LIBRARY_PATH")}


def _others(variable: str) -> str:
    """The folders of a search path that are not ours."""
    folders = os.environ.get(variable, "").split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if folder and not _is_ours(Path(folder)))


def _is_ours(folder: Path) -> bool:
    """Whether it lies beside the folder that TensorRT is installed in: what is packed with this Python."""
    flavour = installed_flavour()
    spec = None if flavour is None else find_spec(flavour.module)
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve().parents[2] in (folder.resolve(), *folder.resolve().parents)
