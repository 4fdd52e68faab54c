"""The first contact with a GPU, rehearsed on a fake one: it can only fail on what is new there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gpu_machine import RTX, gpu_machine
from gpu.families import write_family
from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, Flavour
from trt_server.engines.tensorrt.plan.attention_graph import graph_opset
from trt_server.model.graph.scoring_graph import ATTENTION_OPSET, OPSET

from bench.beliefs import BELIEFS, wanted_variant
from bench.other_graph import other_opset

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


def python_path(machine: dict[str, str]) -> str:
    return os.pathsep.join([machine["PYTHONPATH"], str(ROOT / "tests")])


def first_contact(
    folder: Path, *flags: str, reference: str = f'exec {sys.executable} "$@"', **wishes: Any
) -> subprocess.CompletedProcess[str]:
    python = folder / "python"
    python.write_text(PYTHON.format(reference=reference))
    python.chmod(0o755)
    machine = gpu_machine(folder / "cache", **wishes)
    environment = {
        **os.environ,
        **machine,
        "PYTHONPATH": python_path(machine),
        "REFERENCE_PYTHON": str(python),
    }
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
    # The fake's kernels are the graph's nodes: nothing is fused, which is seen, and asks for a variant.
    refuted = {line[11:] for line in lines if line.startswith("REFUTED")}
    assert refuted >= {
        "attention is one kernel a layer",
        "queries, keys and values are one product, gate and up one",
        "no more than 11 kernels a layer",
    }
    timed = json.loads((tmp_path / "out" / "found.json").read_text())
    assert timed["TensorRT, 6 layers"]["opset"] == OPSET
    assert timed["TensorRT with the other graph, 6 layers"]["opset"] == ATTENTION_OPSET
    assert timed["TensorRT with the other graph, 2 layers"]["difference"] < 8e-3
    confirmed = {line[11:] for line in lines if line.startswith("confirmed")}
    assert {belief.text for belief in BELIEFS if belief.matters} <= confirmed
    assert not [line for line in lines if line.startswith("not seen")]
    assert lines[-1].startswith("verdict: ")
    assert "nothing that matters is refuted" in lines[-1]


def test_the_variant_of_a_version_without_the_operator(tmp_path: Path) -> None:
    """One step of it, as the whole runs it."""
    folder = write_family(tmp_path / "wide-2", "llama")
    machine = gpu_machine(tmp_path / "cache", tensorrt="10.9.0")
    environment = {**os.environ, **machine, "PYTHONPATH": python_path(machine)}
    command = [sys.executable, "-m", "bench.gpu_first_step", "layers", str(folder), "--variant", "past"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=120
    )
    line = json.loads(done.stdout)
    assert (line["name"], line["opset"]) == ("TensorRT with a past, 2 layers", OPSET)
    assert line["other_opset"] is None


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
    line = {"sheet": 989.4e12, "kernels": kernels, "difference": 2e-3, "other_opset": ATTENTION_OPSET}
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


@pytest.mark.parametrize(
    ("layer_ms", "fused", "other", "variant"),
    [
        (0.7, True, ATTENTION_OPSET, None),
        (1.3, True, ATTENTION_OPSET, "past"),
        (0.7, False, ATTENTION_OPSET, "graph"),
        (1.3, False, ATTENTION_OPSET, "graph"),
        (0.7, False, None, "past"),
    ],
)
def test_the_rule_that_chooses_the_variant(
    layer_ms: float, fused: bool, other: int | None, variant: str | None
) -> None:
    kernels = {"fused": fused, "merged": True, "a_layer": 10}
    assert wanted_variant(found(layer_ms, kernels=kernels, other_opset=other)) == variant


def test_no_variant_where_no_wide_layers_ran() -> None:
    assert wanted_variant({}) is None
    assert wanted_variant({"TensorRT, 2 layers": {"kernels": {}, "other_opset": None}}) is None


@pytest.mark.parametrize(
    ("flavour", "version", "other"),
    [
        (TENSORRT, "8.6.1", None),
        (TENSORRT, "10.9.0", None),
        (TENSORRT, "10.13.3.9", None),
        (TENSORRT, "10.14.1.48", ATTENTION_OPSET),
        (TENSORRT, "11.4.0", ATTENTION_OPSET),
        (TENSORRT_RTX, RTX, ATTENTION_OPSET),
    ],
)
def test_which_versions_have_another_graph(flavour: Flavour, version: str, other: int | None) -> None:
    assert {graph_opset(flavour, version, precision) for precision in ("fp16", "fp32")} == {OPSET}
    assert other_opset(flavour, version) == other
