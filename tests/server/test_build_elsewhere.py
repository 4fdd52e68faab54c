"""`trt-server build --target`: plans for GPUs elsewhere, by TensorRT-RTX's real builder in real processes."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from gpu.families import write_family
from processes import run_program
from trt_common.installed_program import program
from trt_server.engines.tensorrt.flavour import TENSORRT_RTX, installed_flavour

from bench.layer_list import kernels_a_layer, read_layer_list

pytestmark = pytest.mark.skipif(
    installed_flavour() is not TENSORRT_RTX, reason="needs TensorRT-RTX, and no TensorRT before it"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In fp16: nothing is converted."""
    return write_family(tmp_path_factory.mktemp("checkpoint") / "llama", "llama")


def arguments(folder: Path, *more: str) -> tuple[str, ...]:
    return ("build", "--model", str(folder), "--max-prompt-tokens", "64", *more)


def build(folder: Path, cache: Path, *more: str) -> CompletedProcess[str]:
    environment = {**os.environ, "TRT_SERVER_CACHE": str(cache), "TRT_SERVER_ENGINE": "auto"}
    return run_program("trt-server", *arguments(folder, *more), env=environment)


def plans(cache: Path) -> list[Path]:
    return sorted((cache / "plans").glob("*/plan.engine"))


def test_it_says_what_it_made_and_for_what_and_finds_it_again(folder: Path, tmp_path: Path) -> None:
    layers = tmp_path / "layers"
    built = build(folder, tmp_path, "--target", "sm86,sm80", "--layers", str(layers))
    assert built.returncode == 0, built.stderr
    assert "engine tensorrt_rtx, fp16: a plan for GPUs of compute capability 8.0, 8.6" in built.stderr
    (plan,) = plans(tmp_path)
    (file,) = layers.iterdir()
    megabytes = plan.stat().st_size / 1e6
    assert built.stdout.startswith(f"tensorrt_rtx fp16: plan {plan}, {megabytes:.1f} MB, ")
    assert built.stdout.endswith(
        f" s to build, good for GPUs of compute capability 8.0, 8.6; its layers are in {file}\n"
    )
    (kernels,) = read_layer_list(file.read_text())
    assert kernels_a_layer(kernels) == 11
    # The same targets in another order, or fewer of them, are the same plan.
    for target in ("sm80,sm86", "sm80"):
        found = build(folder, tmp_path, "--target", target, "--layers", str(layers))
        assert f"plan {plan}, {megabytes:.1f} MB, 0.0 s to build, good for GPUs of compute" in found.stdout
    assert list(layers.iterdir()) == [file]
    other = build(folder, tmp_path, "--target", "sm89")
    assert other.returncode == 0, other.stderr
    assert len(plans(tmp_path)) == 2


def test_a_plan_that_was_changed_is_built_again(folder: Path, tmp_path: Path) -> None:
    build(folder, tmp_path, "--target", "sm80")
    (plan,) = plans(tmp_path)
    content = bytearray(plan.read_bytes())
    content[-1000] ^= 1
    plan.write_bytes(content)
    again = build(folder, tmp_path, "--target", "sm80")
    assert "is not as it was written: it is built again" in again.stderr
    assert " 0.0 s to build" not in again.stdout
    assert plan.read_bytes() != content


def test_two_at_once_build_once(folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "TRT_SERVER_CACHE": str(tmp_path), "TRT_SERVER_ENGINE": "auto"}
    command = [program("trt-server"), *arguments(folder, "--target", "sm80", "--log-level", "error")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(plans(tmp_path)) == 1
    assert sorted(" 0.0 s to build" in line for line in said) == [False, True]


def test_a_file_that_may_not_grow_is_one_line_and_leaves_no_plan(folder: Path, tmp_path: Path) -> None:
    """A limit of this process's files, as a disk quota is: what the builder streams does not go on."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    environment = {**os.environ, "TRT_SERVER_CACHE": str(tmp_path), "TRT_SERVER_ENGINE": "auto"}
    command = arguments(folder, "--target", "sm80", "--log-level", "error")
    done = run_program("trt-server", *command, env=environment, preexec_fn=limit)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot be written: [Errno 27] File too large" in done.stderr
    assert not plans(tmp_path)


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no GPU and no target": (
        ("--engine", "tensorrt"),
        1,
        "; to build for a GPU elsewhere: trt-server build --target sm89, or what it has",
    ),
    "no GPU, fp16 and no target": (
        ("--precision", "fp16"),
        1,
        "; to build for a GPU elsewhere: trt-server build --target sm89, or what it has",
    ),
    "a target that RTX has not": (("--target", "sm80,sm90"), 1, "and not for sm90"),
    "no target": (("--target", ""), 2, "is not a list of compute capabilities such as sm80,sm89"),
    "a number": (("--target", "8.6"), 2, "is not a list of compute capabilities such as sm80,sm89"),
    "an engine without plans": (
        ("--target", "sm80", "--engine", "onnxruntime"),
        1,
        "--target is for a plan, and --engine onnxruntime has none",
    ),
    "devices here": (("--target", "sm80", "--devices", "0"), 1, "--devices names GPUs here"),
    "TF32 in fp16": (("--target", "sm80", "--tf32"), 1, "give --precision fp32 with it"),
    "layers of no plan": (
        ("--engine", "onnxruntime", "--layers", "layers"),
        1,
        "--layers is for a plan, and the onnxruntime engine has none",
    ),
    "layers nowhere": (
        ("--target", "sm80", "--layers", "/dev/null/layers"),
        1,
        "/dev/null/layers cannot be written",
    ),
}


@pytest.mark.parametrize(("more", "status", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_line(
    folder: Path, tmp_path: Path, more: tuple[str, ...], status: int, text: str
) -> None:
    done = build(folder, tmp_path, *more, "--log-level", "error")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert text in done.stderr


@pytest.mark.parametrize("flag", [("--target", "sm80"), ("--layers", "layers")])
def test_a_server_that_is_to_serve_is_not_for_targets_or_layers(flag: tuple[str, str]) -> None:
    done = run_program("trt-server", *flag)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{flag[0]} is for `trt-server build`: leave it off" in done.stderr
