"""`trt-server check`: what would be served, or the error that a start would end with, and nothing besides."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from checkpoints import edit_config, write_checkpoint
from fake_gpu_machine import gpu_machine
from hub import COMMIT, Hub
from processes import FREE_PORTS, run_program
from safetensors.torch import load_file
from trt_server.devices.device import processor_name
from trt_server.model.dummy import GEOMETRIES

ABSENT = Path(__file__).parents[1] / "fakes" / "absent"
TINY = {**GEOMETRIES["tiny"], "architectures": ["LlamaForCausalLM"], "dtype": "float32"}


def check(cache: Path, *arguments: str, **environment: str) -> CompletedProcess[str]:
    variables = {**os.environ, "TRT_SERVER_CACHE": str(cache), **environment}
    return run_program("trt-server", "check", *arguments, env=variables)


def the_line(done: CompletedProcess[str]) -> str:
    """What is printed; fails where that is not one line and nothing else."""
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1), done.stderr
    return done.stdout.rstrip("\n")


def the_error(done: CompletedProcess[str], status: int = 1) -> str:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done.stderr
    return done.stderr.rstrip("\n")


# What would be served.


def test_what_would_be_served_is_one_line(tmp_path: Path) -> None:
    """Without PyTorch and transformers, and with nothing kept: hashes of weights would be."""
    folder = write_checkpoint(tmp_path / "model", "qwen3", dtype="bfloat16", max_shard_size="150KB")
    shards = [load_file(path) for path in folder.glob("*.safetensors")]
    assert len(shards) > 1
    parameters = sum(tensor.numel() for shard in shards for tensor in shard.values())
    cache = tmp_path / "cache"
    without = {"PYTHONPATH": str(ABSENT), "ABSENT_PACKAGES": "torch,transformers"}
    line = the_line(check(cache, "--model", str(folder), "--log-format", "json", **without))
    engine = f"onnxruntime in fp32 on {processor_name()}"
    assert line == f"model: Qwen3ForCausalLM, {parameters:,} parameters, {engine}"
    assert not cache.exists()


def test_random_weights_are_not_made(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    line = the_line(check(cache, "--model", "dummy:tiny"))
    assert line.startswith("dummy:tiny: LlamaForCausalLM, 164,160 parameters, onnxruntime in fp32 on ")
    assert line.endswith("; random weights are still to be made")
    assert not cache.exists()
    run_program(
        "trt-server", "build", "--model", "dummy:tiny", env={**os.environ, "TRT_SERVER_CACHE": str(cache)}
    )
    assert the_line(check(cache, "--model", "dummy:tiny")) == line.rpartition("; ")[0]


def test_the_reference_is_told_too(tmp_path: Path) -> None:
    line = the_line(check(tmp_path, "--reference", "torch", CUDA_VISIBLE_DEVICES=""))
    name = processor_name()
    assert line.endswith(f"onnxruntime in fp32 on {name}; reference torch in fp32 on {name}")


def test_a_gpu_s_plan_is_not_built(tmp_path: Path) -> None:
    log, cache = tmp_path / "log", tmp_path / "cache"
    machine = gpu_machine(cache, log=str(log), devices=2)
    line = the_line(check(cache, "--devices", "0,1", **machine))
    names = "NVIDIA A100-SXM4-40GB cuda:0, NVIDIA A100-SXM4-40GB (second) cuda:1"
    assert line.endswith(f"tensorrt in fp16 on {names}")
    assert not log.exists()
    assert not cache.exists()
    assert "8 GiB" in the_error(check(cache, "--model", "dummy:llama-2-7b", **machine))


# A model on the hub.


def test_weights_on_the_hub_are_not_downloaded(tmp_path: Path) -> None:
    with Hub(TINY) as hub:
        done = check(tmp_path, "--model", "owner/name", HF_HOME=str(tmp_path / "hub"), **hub.environment)
    line = the_line(done)
    assert line.startswith("owner/name: LlamaForCausalLM, 164,160 parameters, onnxruntime in fp32 on ")
    assert "; about 641" in line
    assert line.endswith(" KiB are still to be downloaded")
    assert not hub.asked


def test_a_model_of_the_hub_without_weights_that_can_be_read(tmp_path: Path) -> None:
    with Hub(TINY, ("config.json", "generation_config.json", "pytorch_model.bin")) as hub:
        done = check(tmp_path, "--model", "owner/name", HF_HOME=str(tmp_path / "hub"), **hub.environment)
    assert "owner/name on the hub holds its weights as pytorch_model.bin, not as safeten" in the_error(done)


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_model_in_the_hub_s_cache_needs_no_hub(tmp_path: Path, is_whole: bool) -> None:
    folder = tmp_path / "hub" / "hub" / "models--owner--name"
    snapshot = write_checkpoint(folder / "snapshots" / COMMIT, "llama", max_shard_size="150KB")
    if not is_whole:
        next(snapshot.glob("model-00002-*")).unlink()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    done = check(tmp_path, "--model", "owner/name", HF_HOME=str(tmp_path / "hub"), HF_HUB_OFFLINE="1")
    if is_whole:
        assert the_line(done).startswith("owner/name: LlamaForCausalLM, ")
    else:
        assert "lacks 1 of its " in the_error(done)


# Starts that would fail, each with the start's own words.


def without_a_shard(folder: Path) -> list[str]:
    write_checkpoint(folder, "llama", max_shard_size="150KB")
    next(folder.glob("model-00002-*")).unlink()
    return ["--model", str(folder)]


def of_another_family(folder: Path) -> list[str]:
    edit_config(write_checkpoint(folder, "llama"), model_type="mamba", architectures=["MambaForCausalLM"])
    return ["--model", str(folder)]


def with_a_damaged_configuration(folder: Path) -> list[str]:
    (write_checkpoint(folder, "llama") / "config.json").write_text("{")
    return ["--model", str(folder)]


def with_a_broken_tokenizer(folder: Path) -> list[str]:
    (write_checkpoint(folder, "llama") / "tokenizer.json").write_text("{")
    return ["--model", str(folder)]


def with_an_empty_token_file(folder: Path) -> list[str]:
    folder.write_text("")
    return ["--token-file", str(folder)]


FAILING = {
    "no such folder": lambda _: ["--model", "/nowhere/model"],
    "unknown geometry": lambda _: ["--model", "dummy:llama-9000"],
    "a shard is missing": without_a_shard,
    "another family": of_another_family,
    "a damaged configuration": with_a_damaged_configuration,
    "a broken tokenizer": with_a_broken_tokenizer,
    "a precision that the engine has not": lambda _: ["--engine", "onnxruntime", "--precision", "fp16"],
    "an engine that cannot run here": lambda _: ["--engine", "tensorrt"],
    "the reference twice": lambda _: ["--engine", "torch", "--reference", "torch"],
    "more tokens than positions": lambda _: ["--max-prompt-tokens", "1000000"],
    "no memory": lambda _: ["--prefix-cache-bytes", "900TiB"],
    "no certificate": lambda _: ["--tls-cert", "/no/cert", "--tls-key", "/no/key"],
    "no tokens": with_an_empty_token_file,
}


@pytest.mark.parametrize("case", FAILING)
def test_a_start_that_would_fail_has_the_start_s_error(tmp_path: Path, case: str) -> None:
    arguments = FAILING[case](tmp_path / "it")
    found = the_error(check(tmp_path / "cache", *arguments))
    started = run_program("trt-server", *FREE_PORTS, "--log-level", "error", *arguments)
    assert (started.returncode, started.stderr.rstrip("\n")) == (1, found)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--modle", "demo"], "unrecognized arguments: --modle demo"),
        (["--tls-cert", "x.pem"], "--tls-cert and --tls-key belong together"),
        (["--target", "sm89"], "--target is for `trt-server build`: leave it off"),
    ],
)
def test_a_wrong_argument_has_status_2(tmp_path: Path, arguments: list[str], text: str) -> None:
    assert text in the_error(check(tmp_path, *arguments), 2)


def test_a_processor_without_bf16_is_told(tmp_path: Path) -> None:
    """Whether this one has instructions for it is what OpenVINO itself says."""
    openvino = pytest.importorskip("openvino")
    done = check(tmp_path, "--engine", "openvino", "--precision", "bf16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert f"openvino in bf16 on {processor_name()}" in the_line(done)
    else:
        assert "has no instructions for bf16" in the_error(done)


def test_the_help_names_it() -> None:
    assert "check  say what would be served" in run_program("trt-server", "--help").stdout
    assert "Check the flags, files" in run_program("trt-server", "check", "--help").stdout
