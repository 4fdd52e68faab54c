"""The Python that has PyTorch and transformers, which may not be the one with TensorRT."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from trt_server.engines.tensorrt.flavour import installed_flavour

_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE")


def reference_python() -> str:
    """Return REFERENCE_PYTHON, or this Python if it has PyTorch, or the first other python3."""
    if own := os.environ.get("REFERENCE_PYTHON"):
        return own
    if find_spec("torch"):
        return sys.executable
    return shutil.which("python3", path=_others("PATH")) or "python3"


def reference_environment() -> dict[str, str]:
    """Return this process's environment without paths to packages and libraries of this Python."""
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    return environment | {name: _others(name) for name in ("PATH", "LD_LIBRARY_PATH")}


def _others(variable: str) -> str:
    """Return the folders of a search path that do not belong to this Python."""
    folders = os.environ.get(variable, "").split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if folder and not _is_ours(Path(folder)))


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is beside the one with TensorRT, and so belongs to this Python."""
    flavour = installed_flavour()
    spec = None if flavour is None else find_spec(flavour.module)
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve().parents[2] in (folder.resolve(), *folder.resolve().parents)
