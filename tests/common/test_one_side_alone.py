"""Server and client, each as if what only the other one needs were not installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from client_process import command
from fake_gpu_machine import gpu_machine
from processes import ServerProcess
from run_files import summary
from trt_common.installed_program import program

ROOT = Path(__file__).parents[2]
ABSENT = ROOT / "tests" / "fakes" / "absent"

# Packages of pyproject.toml → what is imported of each.
CLIENT = {"datasets": "datasets", "Jinja2": "jinja2", "plotly": "plotly", "pyarrow": "pyarrow"}
SERVER = {
    "cryptography": "cryptography",
    "grpcio-reflection": "grpc_reflection",
    "msgspec": "msgspec",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "python-json-logger": "pythonjsonlogger",
    "safetensors": "safetensors",
}
BOTH = {
    "ConfigArgParse", "aiohttp", "PyYAML", "googleapis-common-protos", "grpcio", "grpcio-health-checking",
    "huggingface_hub", "numpy", "prometheus-client", "protobuf", "psutil", "rich", "sentencepiece",
    "tokenizers", "transformers",
}  # fmt: skip
# Of the extras of a server: faster on a CPU, on a GPU, and its reference.
EXTRAS = {"openvino", "pycuda", "pynvml", "tensorrt", "tensorrt_rtx", "torch"}

# They import lm-eval, which is an extra of the client's, and are imported where --task asks for it.
OF_LM_EVAL = tuple(f"mmlu_client.tasks.{name}" for name in ("aggregation", "encoding", "harness"))
# The same of Ray, for `campaign --on ray`.
OF_RAY = tuple(f"mmlu_client.campaign.ray.{name}" for name in ("actor", "cluster", "place", "proxy"))

IMPORT_ALL = """
import importlib, pkgutil, sys
for module in pkgutil.walk_packages(importlib.import_module(sys.argv[1]).__path__, sys.argv[1] + "."):
    if module.name not in sys.argv[2:]:
        importlib.import_module(module.name)
"""


def without(packages: set[str], environment: dict[str, str] | None = None) -> dict[str, str]:
    """The variables of a process in which these packages are not installed."""
    given = environment or {}
    path = os.pathsep.join(filter(None, [str(ABSENT), given.get("PYTHONPATH")]))
    return {**given, "ABSENT_PACKAGES": ",".join(sorted(packages)), "PYTHONPATH": path}


CLIENTS_OWN = {"mmlu_client", "lm_eval", "ray", *CLIENT.values()}
SERVERS_OWN = {"trt_server", *SERVER.values(), *EXTRAS}


def test_each_dependency_is_known_to_be_of_one_side_or_of_both() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[<>=~!;\[ ]", each)[0] for each in asked} == BOTH | CLIENT.keys() | SERVER.keys()


def test_absent_packages_are_absent() -> None:
    """Or what follows shows nothing."""
    done = run_python("import onnx", without(SERVERS_OWN))
    assert done.returncode == 1
    assert "No module named 'onnx'" in done.stderr


def test_every_module_of_the_server_is_imported_without_the_clients_packages(tmp_path: Path) -> None:
    """With stand-ins for the GPU's libraries; the module of the reference is left out, it wants PyTorch."""
    environment = without(CLIENTS_OWN, gpu_machine(tmp_path))
    done = run_python(IMPORT_ALL, environment, "trt_server", "trt_server.engines.torch")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "folder", ["cache", "devices", "engines", "model", "request_memory", "scheduling", "threads"]
)
def test_what_computes_knows_no_port(tmp_path: Path, folder: str) -> None:
    """Neither gRPC nor HTTP is imported with it. The module of the reference wants PyTorch."""
    environment = without({"grpc", "aiohttp"}, gpu_machine(tmp_path))
    done = run_python(IMPORT_ALL, environment, f"trt_server.{folder}", "trt_server.engines.torch")
    assert done.returncode == 0, done.stderr


def test_every_module_of_the_client_is_imported_without_the_servers_packages() -> None:
    done = run_python(IMPORT_ALL, without(SERVERS_OWN), "mmlu_client", *OF_LM_EVAL, *OF_RAY)
    assert done.returncode == 0, done.stderr


def test_a_run_needs_on_either_side_nothing_of_the_other(tmp_path: Path) -> None:
    with ServerProcess("--model", "demo", environment=without(CLIENTS_OWN | EXTRAS)) as server:
        url, output = server.wait_until_serving().url, tmp_path / "run"
        done = command("--url", url, "--limit", "1", "--output", output, environment=without(SERVERS_OWN))
        assert server.stop() == 0
    assert done.returncode == 0, done.stderr
    assert summary(output)["answered"] == summary(output)["questions"] > 0
    assert (output / "report.html").is_file()


@pytest.mark.parametrize(
    ("name", "other"), [("trt-server", CLIENTS_OWN), ("mmlu-client", SERVERS_OWN)], ids=["server", "client"]
)
def test_the_command_line_starts_without_the_other(name: str, other: set[str]) -> None:
    for flag in ("--help", "--version"):
        done = subprocess.run(
            [program(name), flag],
            env={**os.environ, **without(other)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert name in done.stdout


def run_python(code: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
