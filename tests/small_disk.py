"""A file system that is full soon."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 60


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A new folder on a file system of so many bytes. Skips where none may be mounted."""
    if shutil.which("mount") is None:
        pytest.skip("no mount")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=SECONDS, check=True)
