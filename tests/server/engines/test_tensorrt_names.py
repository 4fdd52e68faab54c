"""Every TensorRT name that the engine uses, against the signatures of each generation and of RTX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECK = ROOT.parent / "shared" / "typings" / "check-tensorrt"
ENGINE = ROOT / "server" / "trt_server" / "engines" / "tensorrt"


@pytest.mark.skipif(
    not CHECK.is_file(), reason="needs TensorRT's signatures in ../shared beside the repository"
)
def test_names_and_arguments_exist_in_every_generation() -> None:
    files = sorted(map(str, ENGINE.glob("*.py")))
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [CHECK, *files], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("every name is there") == 5
