"""Which Python has PyTorch and transformers: the one with TensorRT may have neither."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE")


def reference_python() -> str:
    """REFERENCE_PYTHON; else this one if it has PyTorch; else python3."""
    if own := os.environ.get("REFERENCE_PYTHON"):
        return own
    return sys.executable if find_spec("torch") else "python3"


def reference_environment() -> dict[str, str]:
    """This process's environment without what leads that Python to packages and libraries of this one's."""
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    paths = environment.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        path for path in paths if path and not _is_ours(Path(path))
    )
    return environment


def _is_ours(folder: Path) -> bool:
    """Whether it lies beside the folder that TensorRT is installed in: libraries packed for this Python."""
    spec = find_spec("tensorrt")
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).resolve().parents[2] in (folder.resolve(), *folder.resolve().parents)
