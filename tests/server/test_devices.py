"""Several GPUs behind one queue, in a real server process on a fake machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from checkpoints import reference_logprobs
from fake_gpu_machine import gpu_machine
from grpc_health.v1 import health_pb2
from holding_machine import ask_in_order
from processes import FREE_PORTS, ServerProcess, run_program
from score_requests import ids_prompt, ids_request, request
from scoring.v1 import scoring_pb2 as pb
from waiting import wait_until

NAME = "NVIDIA A100-SXM4-40GB"
LIMITS = ("--max-prompt-tokens", "250", "--prefix-cache-bytes", "0", "--precision", "fp32")
BOTH = ("--devices", "0,1")
SECONDS = 60
# Batches that begin with one of these wait on their device, each until it is let go; the last ends it.
HELD, LOSING = 7, 8


@dataclass(frozen=True)
class Machine:
    """With two devices. log: what they did."""

    folder: Path
    log: Path
    environment: dict[str, str]

    def let_go(self, token: int) -> None:
        (self.folder / str(token)).touch()

    @property
    def events(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def wait_until_held(self, devices: int) -> None:
        """Until so many devices wait in a batch."""
        wait_until(lambda: len({event for event in self.events if event.startswith("held")}) == devices)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return make_machine(tmp_path)


def make_machine(folder: Path, **wishes: Any) -> Machine:
    log = folder / "log"
    hold = {str(token): str(folder / str(token)) for token in (HELD, LOSING)}
    common = {"devices": 2, "log": str(log), "hold": hold, "lose_at_token": LOSING}
    return Machine(folder, log, gpu_machine(folder / "cache", **{**common, **wishes}))


def start(folder: Path, machine: Machine, *arguments: str) -> ServerProcess:
    return ServerProcess("--model", str(folder), *LIMITS, *arguments, environment=machine.environment)


def idle_stub(server: ServerProcess) -> Any:
    """Of a server whose engines all wait for work: one that has not yet come to that takes none of it."""
    stub = server.wait_until_serving().stub()
    for _ in range(4):
        stub.Score(ids_request(3), timeout=SECONDS)
    return stub


def waiting(server: ServerProcess) -> float:
    return server.metrics()["trt_server_queue_depth{tensorrt}"]


def held_request(token: int = HELD) -> pb.ScoreRequest:
    return request(ids_prompt([token, 5, 9]))


def assert_right(folder: Path, asked: pb.ScoreRequest, reply: pb.ScoreResponse) -> None:
    for prompt, score in zip(asked.prompts, reply.scores, strict=True):
        expected = reference_logprobs(folder, list(prompt.token_ids.ids)).numpy()
        found = np.array(score.candidate_logprobs)
        np.testing.assert_allclose(found, expected[list(score.candidate_ids)], atol=1e-3, rtol=0)


def lengths_requests(lengths: Iterable[int]) -> list[pb.ScoreRequest]:
    return [ids_request(length, id=str(length)) for length in lengths]


def assert_each_right(
    folder: Path, asked: Sequence[pb.ScoreRequest], replies: Iterator[pb.StreamScoreResponse]
) -> None:
    found = {reply.id: reply.response for reply in islice(replies, len(asked))}
    for one in asked:
        assert_right(folder, one, found[one.id])


# What they answer.


def test_two_devices_compute_at_the_same_time(llama_folder: Path, machine: Machine) -> None:
    """The second of two requests goes to the device that has nothing to do, while the first computes."""
    with start(llama_folder, machine, *BOTH) as server:
        stub = idle_stub(server)
        before = server.metrics(by_device=True)
        calls = [stub.Score.future(held_request(), timeout=SECONDS) for _ in range(2)]
        machine.wait_until_held(2)
        machine.let_go(HELD)
        for call in calls:
            assert_right(llama_folder, held_request(), call.result())
        metrics = server.metrics(by_device=True)
        assert server.stop() == 0
    for label in (f"{NAME} cuda:0", f"{NAME} (second) cuda:1"):
        computed = f"trt_server_tokens_total{{{label},tensorrt,computed}}"
        assert metrics[computed] - before[computed] == 3
        for name in ("flops_total", "core_seconds_total"):
            assert metrics[f"trt_server_{name}{{{label},tensorrt}}"] > 0
        assert metrics[f"trt_server_mfu_ratio{{{label},tensorrt}}"] > 0
        assert metrics[f"trt_server_device_memory_used_bytes{{{label}}}"] == 2 * 1024**3
    answered = "trt_server_stage_seconds_count{tensorrt,core}"
    assert metrics[answered] - before[answered] == 2
    assert before.keys() == metrics.keys()


def test_many_at_once_each_get_their_own_answer(llama_folder: Path, machine: Machine) -> None:
    asked = [ids_request(length, length + 1, id=str(length)) for length in range(5, 45)]
    with start(llama_folder, machine, *BOTH, "--max-batch-size", "2") as server:
        stub = server.wait_until_serving().stub()
        together = {reply.id: reply.response for reply in stub.StreamScore(iter(asked), timeout=SECONDS)}
        metrics = server.metrics()
        for one in asked:
            alone = stub.Score(one, timeout=SECONDS)
            for here, there in zip(alone.scores, together[one.id].scores, strict=True):
                assert here.candidate_logprobs == pytest.approx(there.candidate_logprobs, abs=1e-5)
    flops = sum(score.flops for reply in together.values() for score in reply.scores)
    assert metrics["trt_server_flops_total{tensorrt}"] == flops


def test_the_model_tells_of_all_of_them(llama_folder: Path, machine: Machine) -> None:
    with start(llama_folder, machine, *BOTH) as server:
        model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=SECONDS)
    together = model.device
    assert together.name == f"2 × {NAME}"
    assert (together.memory_used_bytes, together.memory_total_bytes) == (4 * 1024**3, 16 * 1024**3)
    assert (together.power_watts, together.temperature_celsius) == (501, 61)
    assert together.sm_clock_hertz == 1.41e9
    assert [device.name for device in model.devices] == [f"{NAME} cuda:0", f"{NAME} (second) cuda:1"]
    assert {device.power_watts for device in model.devices} == {250.5}
    # Of each: core seconds are counted on each.
    assert model.peak.flops_per_second == 19.5e12
    assert model.peak.source.endswith("each of 2 devices")


def test_each_keeps_the_prefixes_that_it_computed(llama_folder: Path, machine: Machine) -> None:
    """Two at a time that share a prefix: it is computed on both devices, and then on neither."""
    prefix = [HELD, *range(20, 79)]
    asked = [ids_prompt([*prefix, *range(100, 100 + tail)]) for tail in (3, 4, 5, 6)]
    for prompt in asked:
        prompt.shared_prefix_tokens = len(prefix)
    with start(llama_folder, machine, *BOTH, "--prefix-cache-bytes", "1MiB") as server:
        stub = idle_stub(server)
        requests = [pb.ScoreRequest(prompts=[prompt], allow_prefix_reuse=True) for prompt in asked]
        first = [stub.Score.future(one, timeout=SECONDS) for one in requests[:2]]
        machine.wait_until_held(2)
        machine.let_go(HELD)
        replies = [
            *(call.result() for call in first),
            *(stub.Score(one, timeout=SECONDS) for one in requests[2:]),
        ]
        metrics = server.metrics(by_device=True)
    for one, reply in zip(requests, replies, strict=True):
        assert_right(llama_folder, one, reply)
    assert [reply.scores[0].tokens.computed for reply in replies] == [63, 64, 5, 6]
    kept = {value for name, value in metrics.items() if name.startswith("trt_server_prefix_cache_bytes{")}
    assert len(kept) == 1
    assert kept.pop() > 0


def test_one_that_is_not_the_first(llama_folder: Path, machine: Machine) -> None:
    with start(llama_folder, machine, "--devices", "1") as server:
        stub = server.wait_until_serving().stub()
        assert_right(llama_folder, ids_request(9), stub.Score(ids_request(9), timeout=SECONDS))
        model = stub.GetModel(pb.GetModelRequest(), timeout=SECONDS)
    assert machine.events == ["build-1", "load-1"]
    assert (model.device.name, [device.name for device in model.devices]) == (
        NAME,
        [f"{NAME} (second) cuda:1"],
    )


# What it builds and loads.


def test_like_devices_share_a_plan_and_a_fingerprint(llama_folder: Path, machine: Machine) -> None:
    fingerprints = set()
    for arguments in (BOTH, BOTH, ("--devices", "1")):
        with start(llama_folder, machine, *arguments) as server:
            model = server.wait_until_serving().stub().GetModel(pb.GetModelRequest(), timeout=SECONDS)
            fingerprints.add(model.engine.fingerprint)
            assert model.engine.load_seconds > 0
    assert machine.events[0] == "build"
    assert sorted(machine.events[1:]) == ["load"] * 2 + ["load-1"] * 3
    assert len(fingerprints) == 1


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...], int, str]] = {
    "twice": ({}, ("--devices", "1,0,1"), 2, "names a device twice"),
    "no number": ({}, ("--devices", "0,-1"), 2, "not a list of GPUs by number such as 0,1"),
    "nothing": ({}, ("--devices", ""), 2, "not a list of GPUs by number such as 0,1"),
    "unknown": ({}, ("--devices", "0,2"), 1, f"there is no device 2; CUDA shows 0 ({NAME}), 1 ({NAME})"),
    "unlike": (
        {"others": ["NVIDIA A30"]},
        BOTH,
        1,
        f"0 ({NAME}) and 1 (NVIDIA A30) are not alike",
    ),
    "full": ({"full": 1}, BOTH, 1, f"{NAME} cuda:1 is out of memory"),
    "no GPU": ({"devices": 0}, BOTH, 1, "--devices names GPUs, and TensorRT cannot run here: no usable CUDA"),
    "on the CPU": ({}, (*BOTH, "--engine", "onnxruntime"), 1, "--engine onnxruntime computes on the CPU"),
    "PyTorch on the CPU": ({}, (*BOTH, "--engine", "torch"), 1, "PyTorch sees no GPU here"),
}


@pytest.mark.parametrize(("wishes", "arguments", "status", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(
    llama_folder: Path,
    tmp_path: Path,
    wishes: dict[str, Any],
    arguments: tuple[str, ...],
    status: int,
    text: str,
) -> None:
    machine = make_machine(tmp_path, **wishes)
    common = ("--model", str(llama_folder), *LIMITS, *FREE_PORTS)
    words = (*common, *arguments, "--log-level", "error")
    done = run_program("trt-server", *words, env={**os.environ, **machine.environment})
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert text in done.stderr


# Draining and loss.


def test_a_stop_waits_for_every_device(llama_folder: Path, machine: Machine) -> None:
    with start(llama_folder, machine, *BOTH) as server:
        stub = idle_stub(server)
        asked = [held_request(), held_request(), *lengths_requests(range(4, 9))]
        calls = [stub.Score.future(one, timeout=SECONDS) for one in asked[:2]]
        machine.wait_until_held(2)
        replies = ask_in_order(stub, *asked[2:])
        # Four lie assembled, two a device.
        wait_until(lambda: waiting(server) == 1)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.health() == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert not any(call.done() for call in calls)
        machine.let_go(HELD)
        for one, call in zip(asked[:2], calls, strict=True):
            assert_right(llama_folder, one, call.result())
        assert_each_right(llama_folder, asked[2:], replies)
        assert server.wait() == 0


def test_a_lost_device_ends_the_server_and_not_what_was_accepted(
    llama_folder: Path, machine: Machine
) -> None:
    with start(llama_folder, machine, *BOTH) as server:
        stub = idle_stub(server)
        held = stub.Score.future(held_request(), timeout=SECONDS)
        machine.wait_until_held(1)
        losing = stub.Score.future(held_request(LOSING), timeout=SECONDS)
        machine.wait_until_held(2)
        asked = lengths_requests(range(3, 9))
        accepted = ask_in_order(stub, *asked)
        wait_until(lambda: waiting(server) == 2)
        machine.let_go(LOSING)
        assert_unavailable(losing)
        wait_until(lambda: server.health() == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert_unavailable(stub.Score.future(ids_request(3), timeout=SECONDS))
        machine.let_go(HELD)
        assert_right(llama_folder, held_request(), held.result())
        assert_each_right(llama_folder, asked, accepted)
        assert any(f"engine lost on {NAME}" in line and "cuda:" in line for line in server.lines)
        assert server.stop() == 0


def test_what_waits_is_refused_when_the_last_device_is_lost(llama_folder: Path, machine: Machine) -> None:
    with start(llama_folder, machine, *BOTH) as server:
        stub = idle_stub(server)
        losing = [stub.Score.future(held_request(LOSING), timeout=SECONDS) for _ in range(2)]
        machine.wait_until_held(2)
        waits = ask_in_order(stub, *lengths_requests(range(3, 9)))
        wait_until(lambda: waiting(server) == 2)
        machine.let_go(LOSING)
        for call in losing:
            assert_unavailable(call)
        for reply in islice(waits, 6):
            assert reply.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert "unspecified launch failure" in reply.error.message
        assert server.stop() == 0


def assert_unavailable(call: Any) -> None:
    error = call.exception()
    assert isinstance(error, grpc.RpcError)
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error.details()
    assert "unspecified launch failure" in str(error.details())
