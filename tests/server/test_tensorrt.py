"""trt-server on TensorRT, as real processes on a fake device: what it answers, builds, keeps and survives.

The fake runs the parsed graph with ONNX Runtime, on memory and streams that are only as ordered as the engine
asks for. What a real device adds is tested in tests/gpu.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from checkpoints import reference_logprobs, write_checkpoint
from fake_gpu_machine import GENERATIONS, RTX, gpu_machine
from grpc_health.v1 import health_pb2
from processes import FREE_PORTS, ServerProcess, run_program
from score_requests import ids_prompt, ids_request, request
from scoring.v1 import scoring_pb2 as pb

LIMITS = ("--max-prompt-tokens", "250", "--max-batch-size", "4", "--prefix-cache-bytes", "0")
RAGGED = (1, 200, 15, 64)
LOSING_TOKEN = 7


def start(folder: Path, environment: dict[str, str], *arguments: str) -> ServerProcess:
    return ServerProcess("--model", str(folder), *LIMITS, *arguments, environment=environment)


def run_once(folder: Path, environment: dict[str, str], *arguments: str) -> Any:
    """trt-server to its end; `build`, if it is to be that, stands first."""
    command = arguments[:1] if arguments[:1] == ("build",) else ()
    common = ("--model", str(folder), *LIMITS, *FREE_PORTS)
    words = (*command, *common, *arguments[len(command) :])
    return run_program("trt-server", *words, env={**os.environ, **environment})


def assert_agrees(
    folder: Path, replies: list[tuple[pb.ScoreRequest, pb.ScoreResponse]], tolerance: float
) -> None:
    for asked, reply in replies:
        for prompt, score in zip(asked.prompts, reply.scores, strict=True):
            expected = reference_logprobs(folder, list(prompt.token_ids.ids)).numpy()
            found = np.array(score.candidate_logprobs)
            np.testing.assert_allclose(found, expected[list(score.candidate_ids)], atol=tolerance, rtol=0)
            assert score.top_logprob == pytest.approx(expected.max(), abs=tolerance)


def events(log: Path) -> list[str]:
    """What the fake noted: builds and loads."""
    return log.read_text().split() if log.exists() else []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(scope="module", params=GENERATIONS)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return gpu_machine(tmp_path_factory.mktemp("cache"), tensorrt=request.param)


# What it answers.


def test_fp16_by_default_and_the_reference_s_answers(llama_folder: Path, machine: dict[str, str]) -> None:
    asked = [ids_request(*RAGGED), ids_request(250), ids_request(3), ids_request(9, 17)]
    with start(llama_folder, machine) as server:
        stub = server.wait_until_serving().stub()
        replies = [(one, stub.Score(one, timeout=60)) for one in asked]
        model = stub.GetModel(pb.GetModelRequest(), timeout=60)
        metrics = server.metrics()
        assert server.stop() == 0
        pinned = [line for line in server.lines if "layers stay in float32" in line]
    if model.engine.version.startswith("8."):
        assert "0 of them matrix products" in pinned[0]
    assert_agrees(llama_folder, replies, tolerance=0.1)
    version = json.loads(machine["FAKE_GPU"])["tensorrt"]
    name = "tensorrt_rtx" if version == RTX else "tensorrt"
    assert (model.engine.name, model.engine.version, model.engine.precision) == (name, version, "fp16")
    first = next(json.loads(line)["message"] for line in server.lines if '"engine ' in line)
    assert first.startswith(f"engine {name}, fp16: it and a device are there, NVIDIA A100")
    assert f"trt_server_mfu_ratio{{{name}}}" in metrics
    assert model.peak.flops_per_second == 312e12
    assert model.device.name == "NVIDIA A100-SXM4-40GB"
    assert [(reply.batch.prompts, reply.batch.padded_length) for _, reply in replies] == [
        (4, 200),
        (1, 256),
        (1, 8),
        (2, 24),
    ]
    timing = replies[0][1].timing
    assert timing.core_ns > 0
    assert min(timing.copy_in_ns, timing.copy_out_ns) >= 0


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
def test_fp32_to_rounding(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / family, family, tokenizer=False)
    asked = [ids_request(*RAGGED), ids_request(100)]
    with start(folder, gpu_machine(tmp_path / "cache"), "--precision", "fp32") as server:
        stub = server.wait_until_serving().stub()
        assert_agrees(folder, [(one, stub.Score(one, timeout=60)) for one in asked], tolerance=1e-3)
        assert stub.GetModel(pb.GetModelRequest(), timeout=60).peak.flops_per_second == 19.5e12


def test_tf32_is_said_aloud(llama_folder: Path, tmp_path: Path, log: Path) -> None:
    environment = gpu_machine(tmp_path / "cache", log=str(log))
    with start(llama_folder, environment, "--precision", "fp32", "--tf32") as server:
        model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=60)
        assert any("TF32" in line for line in server.lines)
    assert events(log) == ["build-tf32", "load"]
    assert model.engine.precision == "tf32"
    assert (model.peak.flops_per_second, "TF32" in model.peak.source) == (156e12, True)


def test_many_at_once_each_get_their_own_answer(llama_folder: Path, tmp_path: Path) -> None:
    """Two batches are in flight at a time, in two sets of buffers."""
    asked = [ids_request(length, length + 1, id=str(length)) for length in range(5, 45)]
    with start(llama_folder, gpu_machine(tmp_path), "--precision", "fp32") as server:
        stub = server.wait_until_serving().stub()
        together = {reply.id: reply.response for reply in stub.StreamScore(iter(asked), timeout=60)}
        for one in asked:
            alone = stub.Score(one, timeout=60)
            for here, there in zip(alone.scores, together[one.id].scores, strict=True):
                assert here.candidate_logprobs == pytest.approx(there.candidate_logprobs, abs=1e-5)


OUTCOMES_STAY = """
import sys
from dataclasses import astuple, replace
from pathlib import Path
import numpy as np
from trt_server.engines.engine import EngineLimits, next_token_batch
from trt_server.engines.tensorrt.run.engine import TensorRtEngine
from trt_server.model.files.checkpoint import open_checkpoint
engine = TensorRtEngine(open_checkpoint(Path(sys.argv[1])), EngineLimits(64, 1), "fp32", False)
def submit(token):
    tokens, lengths, candidates = np.full((1, 8), token), np.array([8]), np.array([[5]])
    return engine.submit(replace(next_token_batch(tokens, lengths, candidates), top_count=3))
first = submit(3).wait().scores
kept = [array.copy() for array in astuple(first)]
for token in range(20, 24):
    other = submit(token).wait().scores
assert other.target_logprobs != first.target_logprobs
for array, before in zip(astuple(first), kept, strict=True):
    np.testing.assert_array_equal(array, before)
engine.close()
"""


def test_an_outcome_stays_when_its_buffers_are_used_again(llama_folder: Path, tmp_path: Path) -> None:
    environment = {**os.environ, **gpu_machine(tmp_path)}
    command = [sys.executable, "-c", OUTCOMES_STAY, str(llama_folder)]
    subprocess.run(command, check=True, env=environment, timeout=60)


def test_more_candidates_than_the_plan_takes_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    with start(llama_folder, gpu_machine(tmp_path)) as server:
        stub = server.wait_until_serving().stub()
        assert (
            len(stub.Score(request(ids_prompt([1], range(64))), timeout=60).scores[0].candidate_logprobs)
            == 64
        )
        with pytest.raises(grpc.RpcError) as error:
            stub.Score(request(ids_prompt([1], range(65))), timeout=60)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "prompt 0 has 65 candidates, the engine's limit is 64" in str(error.value.details())
        assert server.health() == health_pb2.HealthCheckResponse.SERVING


def test_more_candidates_than_the_plan_takes_fail_no_request_beside_theirs(
    llama_folder: Path, tmp_path: Path
) -> None:
    """Four prompts make a batch, and are waited for: the wrong one would be among the first four."""
    with start(llama_folder, gpu_machine(tmp_path), "--max-queue-delay-us", "20000000") as server:
        stub = server.wait_until_serving().stub()
        stub.GetModel(pb.GetModelRequest(), timeout=60)
        wrong = stub.Score.future(request(ids_prompt([1], range(65))), timeout=60)
        right = [stub.Score.future(ids_request(length), timeout=60) for length in (5, 6, 7, 8)]
        assert wrong.exception().code() == grpc.StatusCode.INVALID_ARGUMENT
        assert [call.result().batch.prompts for call in right] == [4] * 4


def test_device_readings_and_an_unknown_peak(llama_folder: Path, tmp_path: Path) -> None:
    with start(llama_folder, gpu_machine(tmp_path, name="NVIDIA Wonder 9000")) as server:
        model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=60)
        metrics = server.metrics()
    device = model.device
    assert device.memory_used_bytes == device.memory_peak_bytes == 2 * 1024**3
    assert (device.memory_used_by_all_bytes, device.memory_total_bytes) == (3 * 1024**3, 8 * 1024**3)
    assert (device.power_watts, device.temperature_celsius) == (250.5, 61)
    assert (device.sm_clock_hertz, device.memory_clock_hertz) == (1.41e9, 1.593e9)
    assert not device.HasField("energy_joules")
    assert not any("energy" in name for name in metrics)
    assert model.peak.flops_per_second == 0
    assert "--peak-flops" in model.peak.source
    assert metrics["trt_server_mfu_ratio{tensorrt}"] == 0


# What it builds and keeps.


def test_built_once_then_found(
    llama_folder: Path, tmp_path: Path, log: Path, machine: dict[str, str]
) -> None:
    version = json.loads(machine["FAKE_GPU"])["tensorrt"]
    environment = gpu_machine(tmp_path / "cache", log=str(log), tensorrt=version)
    fingerprints = []
    for _ in range(2):
        with start(llama_folder, environment) as server:
            model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=60)
            fingerprints.append(model.engine.fingerprint)
    # TensorRT-RTX compiles as it warms up, once for each profile, and keeps what it compiled.
    compiled = ["compile"] * 2 if version == RTX else []
    assert events(log) == ["build", "load", *compiled, "load"]
    assert fingerprints[0] == fingerprints[1]


def test_build_command_prints_the_plan_that_serving_finds(
    llama_folder: Path, tmp_path: Path, log: Path
) -> None:
    environment = gpu_machine(tmp_path / "cache", log=str(log))
    built = run_once(llama_folder, environment, "build")
    assert built.returncode == 0, built.stderr
    (plan,) = (tmp_path / "cache" / "plans").glob("*/plan.engine")
    assert f"tensorrt fp16: plan {plan}," in built.stdout
    assert events(log) == ["build"]
    found = run_once(llama_folder, environment, "build")
    assert "0.0 s to build" in found.stdout
    with start(llama_folder, environment) as server:
        server.wait_until_serving()
    assert events(log) == ["build", "load"]


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "TensorRT": ({"tensorrt": "8.6.2"}, []),
    "TensorRT-RTX": ({"tensorrt": RTX}, []),
    "device": ({"name": "NVIDIA A30"}, []),
    "precision": ({}, ["--precision", "fp32"]),
    "limits": ({}, ["--max-batch-size", "3"]),
}


@pytest.mark.parametrize(("wishes", "arguments"), CHANGES.values(), ids=CHANGES)
def test_another_start_is_another_plan(
    llama_folder: Path, tmp_path: Path, log: Path, wishes: dict[str, Any], arguments: list[str]
) -> None:
    cache = tmp_path / "cache"
    run_once(llama_folder, gpu_machine(cache, log=str(log)), "build")
    again = run_once(llama_folder, gpu_machine(cache, log=str(log), **wishes), "build", *arguments)
    assert again.returncode == 0, again.stderr
    assert events(log) == ["build", "build"]


def test_damaged_plan_is_built_again_and_never_loaded(llama_folder: Path, tmp_path: Path, log: Path) -> None:
    environment = gpu_machine(tmp_path / "cache", log=str(log))
    run_once(llama_folder, environment, "build")
    (plan,) = (tmp_path / "cache" / "plans").glob("*/plan.engine")
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)
    with start(llama_folder, environment) as server:
        stub = server.wait_until_serving().stub()
        assert_agrees(
            llama_folder, [(ids_request(20), stub.Score(ids_request(20), timeout=60))], tolerance=0.1
        )
    assert events(log) == ["build", "build", "load"]


def test_two_servers_at_once_build_once(llama_folder: Path, tmp_path: Path, log: Path) -> None:
    environment = gpu_machine(tmp_path / "cache", log=str(log))
    first, second = (start(llama_folder, environment) for _ in range(2))
    with first, second, ThreadPoolExecutor() as pool:
        list(pool.map(ServerProcess.wait_until_serving, (first, second)))
    assert sorted(events(log)) == ["build", "load", "load"]


def test_unreadable_timings_do_not_matter(llama_folder: Path, tmp_path: Path) -> None:
    environment = gpu_machine(tmp_path / "cache")
    run_once(llama_folder, environment, "build")
    (timings,) = (tmp_path / "cache" / "timings").iterdir()
    assert timings.read_bytes() == b"timings"
    timings.write_bytes(b"rubbish")
    assert run_once(llama_folder, environment, "build", "--precision", "fp32").returncode == 0
    assert timings.read_bytes() == b"timings"


def test_kernels_that_were_compiled_are_kept_and_never_taken_on_trust(
    llama_folder: Path, tmp_path: Path, log: Path
) -> None:
    environment = gpu_machine(tmp_path / "cache", log=str(log), tensorrt=RTX)
    run_until_serving(llama_folder, environment)
    (kernels,) = (tmp_path / "cache" / "kernels").iterdir()
    whole = kernels.read_bytes()
    for content, compiled in ((whole, 0), (whole[:-1], 2), (b"", 2), (whole, 0)):
        kernels.write_bytes(content)
        before = events(log).count("compile")
        run_until_serving(llama_folder, environment)
        assert events(log).count("compile") - before == compiled
        assert kernels.read_bytes() == whole


def test_nothing_is_compiled_while_requests_are_answered(
    llama_folder: Path, tmp_path: Path, log: Path
) -> None:
    with start(llama_folder, gpu_machine(tmp_path / "cache", log=str(log), tensorrt=RTX)) as server:
        stub = server.wait_until_serving().stub()
        before = events(log)
        for length in range(1, 250, 31):
            stub.Score(ids_request(length), timeout=60)
            stub.Score(ids_request(length, 1), timeout=60)
    assert events(log) == before


def test_a_plan_that_was_built_for_targets_elsewhere_is_found(
    llama_folder: Path, tmp_path: Path, log: Path
) -> None:
    """The device's capability is 8.0."""
    elsewhere = gpu_machine(tmp_path / "cache", log=str(log), tensorrt=RTX, devices=0)
    here = gpu_machine(tmp_path / "cache", log=str(log), tensorrt=RTX)
    for target, builds in (("sm86", 1), ("sm86,sm80", 2)):
        built = run_once(llama_folder, elsewhere, "build", "--target", target)
        assert built.returncode == 0, built.stderr
        assert events(log).count("build") == builds
    run_until_serving(llama_folder, here)
    assert events(log).count("build") == 2
    assert events(log).count("load") == 1


def test_layers_come_from_the_inspector_where_there_is_a_device(llama_folder: Path, tmp_path: Path) -> None:
    layers = tmp_path / "layers"
    for version in GENERATIONS:
        machine = gpu_machine(tmp_path / "cache", tensorrt=version)
        built = run_once(llama_folder, machine, "build", "--layers", str(layers))
        assert built.returncode == 0, built.stderr
        written = Path(built.stdout.strip().rpartition("its layers are in ")[2])
        assert json.loads(written.read_text())["Layers"]
    assert len(list(layers.glob("*.json"))) == len(GENERATIONS)


def run_until_serving(folder: Path, environment: dict[str, str]) -> None:
    with start(folder, environment) as server:
        server.wait_until_serving()
        assert server.stop() == 0


NO_DEVICE = """
import sys
from pathlib import Path
from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.run.engine import TensorRtEngine
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
try:
    TensorRtEngine(open_checkpoint(Path(sys.argv[1])), EngineLimits(64, 1), "fp16", False)
except StartError as error:
    print(error)
"""


def test_without_a_device_the_process_goes_on(llama_folder: Path, tmp_path: Path) -> None:
    """8.6's runtime would end it."""
    environment = {**os.environ, **gpu_machine(tmp_path, tensorrt="8.6.1", devices=0)}
    command = [sys.executable, "-c", NO_DEVICE, str(llama_folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert done.stdout.startswith("no usable CUDA device: cuInit failed")


# What it survives, and what it says when it does not.


@pytest.fixture(params=["fail_enqueue", "lose_at_token", "late_at_token"])
def losing_server(
    request: pytest.FixtureRequest, llama_folder: Path, tmp_path: Path
) -> Iterator[ServerProcess]:
    """A server whose TensorRT, or whose device, fails at the first request after two good ones."""
    # Three batches a profile are for warming up, and one of 128 tokens to measure the speed.
    wishes = {request.param: 6 + 1 + 3 if request.param == "fail_enqueue" else LOSING_TOKEN}
    with start(llama_folder, gpu_machine(tmp_path, **wishes), "--max-prompt-tokens", "128") as server:
        yield server.wait_until_serving()


def test_lost_engine_is_unavailable_and_not_serving(losing_server: ServerProcess) -> None:
    stub = losing_server.stub()
    for _ in range(2):
        assert stub.Score(request(ids_prompt([1, 2, 3])), timeout=30).scores
    for _ in range(2):
        with pytest.raises(grpc.RpcError) as error:
            stub.Score(request(ids_prompt([LOSING_TOKEN, 2, 3])), timeout=30)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        details = str(error.value.details())
        assert "no kernel image" in details or "unspecified launch failure" in details
        assert "started again" in details
    assert losing_server.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    losing_server.signal(signal.SIGTERM)
    assert losing_server.wait() == 0, losing_server.lines[-5:]


FAILED_STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "memory at the build": ({"memory": 500_000}, "is out of memory"),
    # Weights (0.4 MB in fp16) fit, activations (2 MB) do not.
    "memory at the load": ({"memory": 1_000_000}, "is out of memory"),
    "memory of the host": ({"pinned": 100}, "the host has no"),
    "memory for a context": ({"full_at": "context"}, "has no memory left for a CUDA context"),
    "memory for a stream": ({"full_at": "stream"}, "has no memory left for a CUDA context and its streams"),
    "CUDA at the load": (
        {"load_error": "Cuda Runtime (cudaError 35: driver version\n is insufficient)"},
        "because CUDA failed: Cuda Runtime (cudaError 35: driver version is insufficient); see whether",
    ),
    "another plan at the load": (
        {"load_error": "Version tag does not match"},
        "remove that folder to build it",
    ),
    "profile": ({"refuse_profiles": True}, "refuses profile 0: profile 0 cannot be taken"),
    "first enqueue": ({"fail_enqueue": 1}, "the first batch of 1 × 1 tokens failed"),
    "no device": ({"devices": 0}, "no usable CUDA device"),
    "a version that answers wrongly": (
        {"tensorrt": "10.7.0"},
        "cannot run here: TensorRT 10.7.0 is known to answer wrongly (10.0 in fp16 attention",
    ),
    "no driver": (
        {"driver_error": "libcuda.so.1: cannot open shared object file"},
        "no NVIDIA driver (libcuda.so.1",
    ),
}


@pytest.mark.parametrize(("wishes", "text"), FAILED_STARTS.values(), ids=FAILED_STARTS)
def test_failed_start_is_one_line(
    llama_folder: Path, tmp_path: Path, wishes: dict[str, Any], text: str
) -> None:
    environment = gpu_machine(tmp_path, **wishes)
    done = run_once(llama_folder, environment, "--engine", "tensorrt", "--log-level", "error")
    assert done.returncode == 1, done.stderr
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("memory", [500_000, 1_000_000])
def test_out_of_memory_says_how_much_is_free(llama_folder: Path, tmp_path: Path, memory: int) -> None:
    done = run_once(llama_folder, gpu_machine(tmp_path, memory=memory), "--log-level", "error")
    assert "bytes for" in done.stderr
    assert f"of its {memory:,} bytes are free" in done.stderr


def test_auto_without_a_device_says_why_it_takes_the_cpu(llama_folder: Path, tmp_path: Path) -> None:
    with start(llama_folder, gpu_machine(tmp_path, devices=0)) as server:
        model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=60)
        assert any("TensorRT cannot run here: no usable CUDA device" in line for line in server.lines)
    assert model.engine.name in ("onnxruntime", "openvino")


@pytest.mark.parametrize(
    ("flags", "text"),
    [(["--tf32"], "give --precision fp32 with it"), (["--threads", "2"], "TensorRT computes on a GPU")],
)
def test_flags_without_a_use_are_refused(
    llama_folder: Path, tmp_path: Path, flags: list[str], text: str
) -> None:
    done = run_once(llama_folder, gpu_machine(tmp_path), *flags, "--log-level", "error")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert text in done.stderr
