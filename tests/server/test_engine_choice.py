"""Which engine a machine gets, and what it is told where one is missing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_gpu_machine import gpu_machine
from processes import FREE_PORTS, run_program

QUIET = ("--log-level", "error")

without_pycuda = pytest.mark.skipif(find_spec("pycuda") is not None, reason="pycuda is installed here")


# Hides what is installed here from a program.
WITHOUT = """
import sys
from importlib import util
hidden, find_spec = sys.argv.pop(1).split(","), util.find_spec
util.find_spec = lambda name, *rest: None if name in hidden else find_spec(name, *rest)
from trt_server.cli import main
main()
"""


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        (
            "tensorrt,tensorrt_rtx,pycuda",
            "no TensorRT and no pycuda in this Python; pip install 'trt-server[tensorrt]', or for an RTX "
            "card 'trt-server[rtx]'",
        ),
        (
            "tensorrt,pycuda",
            "no pycuda in this Python; pip install 'trt-server[rtx]'; to build for a GPU elsewhere: "
            "trt-server build --target sm89, or what it has",
        ),
    ],
)
def test_tensorrt_that_is_not_installed_is_one_line_with_the_way_to_get_it(hidden: str, text: str) -> None:
    command = [sys.executable, "-c", WITHOUT, hidden, "--engine", "tensorrt", *FREE_PORTS, *QUIET]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert text in done.stderr


@without_pycuda
@pytest.mark.parametrize(
    ("hidden", "arguments", "engine"),
    [
        ("", (), "openvino, fp32"),
        ("", ("--precision", "bf16"), "openvino, bf16"),
        ("openvino", (), "onnxruntime, fp32"),
    ],
)
def test_auto_says_which_and_why(hidden: str, arguments: tuple[str, ...], engine: str) -> None:
    """On a CPU OpenVINO where it is installed, and never bf16 unless it is asked for."""
    if hidden == "" and platform.machine() != "x86_64":
        pytest.skip("OpenVINO was measured on x86-64 alone, and is not chosen elsewhere")
    command = [sys.executable, "-c", WITHOUT, hidden, "build", *arguments]
    environment = {**os.environ, "TRT_SERVER_ENGINE": "auto"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert f"engine {engine}: on the CPU, TensorRT cannot run here: no" in done.stderr


def test_bf16_without_openvino_says_how_to_get_it() -> None:
    command = [sys.executable, "-c", WITHOUT, "openvino", "--precision", "bf16", *FREE_PORTS, *QUIET]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "pip install 'trt-server[openvino]'" in done.stderr


def test_nothing_of_tensorrt_is_imported_before_it_is_chosen(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import trt_server.server, trt_server.loading.building, trt_server.engines.choice\n"
        "names = {'tensorrt', 'tensorrt_rtx', 'pycuda', 'pynvml', 'torch'} & set(sys.modules)\n"
        "assert not names, names\n"
    )
    environment = {**os.environ, **gpu_machine(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


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
