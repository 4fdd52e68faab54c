"""The first contact with a GPU, rehearsed on a fake one: it can only fail on what is new there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpu_machine import RTX, gpu_machine

from bench.beliefs import BELIEFS

ROOT = Path(__file__).parents[3]
# The reference's Python. PyTorch's own speed is made up, because it needs a GPU; with products of 1 GFLOP/s a
# layer on the fake device, which is a CPU, is fast.
PYTHON = """#!/bin/sh
case "$*" in
*gpu_torch.py*rate*) echo '{{"rate": 1e9}}' ;;
*gpu_torch.py*wide-2*) echo '{{"name": "PyTorch eager", "core_seconds": 1}}' ;;
*gpu_torch.py*wide-6*) echo '{{"name": "PyTorch eager", "core_seconds": 900}}' ;;
*) {reference} ;;
esac
"""


def first_contact(
    folder: Path, *flags: str, reference: str = f'exec {sys.executable} "$@"', **wishes: Any
) -> subprocess.CompletedProcess[str]:
    python = folder / "python"
    python.write_text(PYTHON.format(reference=reference))
    python.chmod(0o755)
    machine = gpu_machine(folder / "cache", **wishes)
    path = os.pathsep.join([machine["PYTHONPATH"], str(ROOT / "tests")])
    environment = {**os.environ, **machine, "PYTHONPATH": path, "REFERENCE_PYTHON": str(python)}
    command = [
        sys.executable,
        "-m",
        "bench.gpu_first",
        "--output",
        str(folder / "out"),
        "--width",
        "256",
        *flags,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=280, check=False
    )


def test_every_step_runs_and_every_belief_has_its_verdict(tmp_path: Path) -> None:
    done = first_contact(tmp_path, tensorrt=RTX)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "table.txt").read_text() == done.stdout
    assert not [line for line in lines if "FAILED" in line]
    # The fake's kernels are the graph's nodes: nothing is fused, which is seen, and asks for the variant.
    refuted = {line[11:] for line in lines if line.startswith("REFUTED")}
    assert refuted >= {
        "attention is one kernel a layer",
        "queries, keys and values are one product, gate and up one",
        "no more than 11 kernels a layer",
    }
    assert any("TensorRT with a past, 6 layers" in text for text in (tmp_path / "out" / "found.json").open())
    confirmed = {line[11:] for line in lines if line.startswith("confirmed")}
    assert {belief.text for belief in BELIEFS if belief.matters} <= confirmed
    assert not [line for line in lines if line.startswith("not seen")]
    assert lines[-1].startswith("verdict: ")
    assert "nothing that matters is refuted" in lines[-1]


def test_a_plan_that_does_not_run_ends_it_with_the_reason(tmp_path: Path) -> None:
    done = first_contact(tmp_path, reference="exit 0", load_error="no kernel image is available")
    assert done.returncode == 1
    (failed,) = (line for line in done.stdout.splitlines() if "FAILED" in line)
    assert failed.startswith("it runs")
    assert "no kernel image is available" in failed
    assert "verdict: 0 confirmed, 0 refuted" in done.stdout


def test_without_time_nothing_is_begun(tmp_path: Path) -> None:
    done = first_contact(tmp_path, "--seconds", "0")
    assert done.returncode == 1
    assert "small checkpoints          not done: no time left" in done.stdout


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = first_contact(tmp_path, devices=0)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "TensorRT cannot run here: no usable CUDA device" in done.stderr


def found(layer_ms: float, **changes: Any) -> dict[str, Any]:
    """An H100's, as it is hoped for."""
    kernels = {"fused": True, "merged": True, "a_layer": 10}
    flops, two = 330e9, 2.0
    line = {"sheet": 989.4e12, "kernels": kernels, "difference": 2e-3}
    return {
        "runs": {"finite": True},
        "agrees": {"fp16": 4e-3, "fp32": 1e-4},
        "repeats": {"profiles": True, "in_flight": True},
        "rate": {"rate": 790e12},
        "TensorRT, 2 layers": {**line, "core_ms": two, "flops": 2 * flops, **changes},
        "TensorRT, 6 layers": {**line, "core_ms": two + 4 * layer_ms, "flops": 6 * flops},
        "PyTorch eager, 2 layers": {"core_ms": 2.4},
        "PyTorch eager, 6 layers": {"core_ms": 6.4},
    }


@pytest.mark.parametrize(("layer_ms", "refuted"), [(0.7, 0), (1.1, 3), (1.3, 4), (4.1, 5)])
def test_the_gates_on_a_layer_s_core_time(layer_ms: float, refuted: int) -> None:
    """At 1.1 ms it misses the first gate, the MFU that is believed, and PyTorch."""
    verdicts = [belief.verdict(found(layer_ms)) for belief in BELIEFS]
    assert verdicts.count("REFUTED") == refuted
    assert verdicts.count("not seen") == 0


def test_sums_in_float16_are_refuted() -> None:
    (belief,) = (belief for belief in BELIEFS if "add up in float32" in belief.text)
    assert belief.verdict(found(0.7, difference=1.7e-2)) == "REFUTED"
    assert belief.verdict(found(0.7, difference=2.3e-3)) == "confirmed"


def test_what_was_not_found_is_not_judged() -> None:
    assert {belief.verdict({}) for belief in BELIEFS} == {"not seen"}
