"""Which engine a machine gets, and what it is told where one is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_gpu_machine import gpu_machine
from processes import FREE_PORTS, run_program

QUIET = ("--log-level", "error")

without_tensorrt = pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is installed here")


@without_tensorrt
def test_tensorrt_that_is_not_installed_is_one_line_with_the_way_to_get_it() -> None:
    done = run_program("trt-server", "--engine", "tensorrt", *FREE_PORTS, *QUIET)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no TensorRT and no pycuda in this Python; pip install 'trt-server[tensorrt]'" in done.stderr


@without_tensorrt
def test_auto_says_which_and_why() -> None:
    done = run_program("trt-server", "build")
    assert "engine onnxruntime, fp32: on the CPU, TensorRT cannot run here: no TensorRT" in done.stderr


def test_nothing_of_tensorrt_is_imported_before_it_is_chosen(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import trt_server.server, trt_server.building, trt_server.engines.choice\n"
        "names = {'tensorrt', 'pycuda', 'pynvml', 'torch'} & set(sys.modules)\n"
        "assert not names, names\n"
    )
    environment = {**os.environ, **gpu_machine(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_build_where_there_is_no_plan_says_what_is_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "TRT_SERVER_CACHE": str(tmp_path)}
    arguments = ("build", "--engine", "onnxruntime", "--model", "dummy:tiny", *QUIET)
    done = run_program("trt-server", *arguments, env=environment)
    assert done.returncode == 0
    assert f"onnxruntime fp32: no plan; its weights are in {tmp_path / 'dummy'}" in done.stdout


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_tf32_is_refused_where_it_would_do_nothing(engine: str) -> None:
    done = run_program("trt-server", "--engine", engine, "--tf32", *FREE_PORTS, *QUIET)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--tf32 is for the tensorrt engine" in done.stderr
