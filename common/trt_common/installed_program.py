"""The programs of this installation, as other processes are started with them."""

from __future__ import annotations

import sys
from pathlib import Path


def program(name: str) -> str:
    """Return the path of a program that was installed with this package, such as `trt-server`."""
    return str(Path(sys.executable).parent / name)
