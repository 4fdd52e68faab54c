"""An engine that never comes back: the server says so, and ends so that its supervisor starts it again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from holding_machine import SECONDS, HoldingMachine, ask_in_order, held_request, occupy
from processes import ServerProcess
from score_requests import ids_request

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TOKEN, OTHER = 100, 101


@pytest.fixture
def machine(tmp_path: Path) -> HoldingMachine:
    return HoldingMachine.make(tmp_path, (TOKEN, OTHER))


def watch(server: ServerProcess) -> Iterator[Any]:
    health = health_pb2_grpc.HealthStub(server.channel())
    statuses: Iterator[Any] = health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    return statuses


def test_a_batch_that_never_comes_back_ends_the_process(llama_folder: Path, machine: HoldingMachine) -> None:
    with machine.start(llama_folder, "--stall-timeout", "0.5", "--stall-exit", "3") as server:
        stub = server.wait_until_serving().stub()
        statuses = watch(server)
        assert next(statuses).status == SERVING
        running = occupy(machine, stub, TOKEN)
        waiting = [stub.Score.future(ids_request(3), timeout=SECONDS) for _ in range(6)]
        assert next(statuses).status == NOT_SERVING
        assert server.metrics()["trt_server_serving"] == 0
        with pytest.raises(grpc.RpcError) as refused:
            stub.Score(ids_request(3), timeout=SECONDS)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the engine does not answer: a batch of" in str(refused.value.details())
        assert server.wait() == 3
        for call in (running, *waiting):
            assert call.code() is grpc.StatusCode.UNAVAILABLE
    errors = [line for line in server.lines if '"level": "ERROR"' in line]
    assert len(errors) == 1
    assert re.search(r"not serving: a batch of \d+ tokens has run for", errors[0])
    assert "the process does in 3 s, with status 3" in errors[0]
    ends = [line for line in server.lines if '"level": "CRITICAL"' in line]
    assert len(ends) == 1
    assert "ended with status 3: a batch of " in ends[0]
    assert server.lines[-1] == ends[0]


def test_a_batch_that_comes_back_after_all_is_answered(llama_folder: Path, machine: HoldingMachine) -> None:
    with machine.start(llama_folder, "--stall-timeout", "0.5", "--stall-exit", "600") as server:
        stub = server.wait_until_serving().stub()
        statuses = watch(server)
        assert next(statuses).status == SERVING
        running = occupy(machine, stub, TOKEN)
        assert next(statuses).status == NOT_SERVING
        machine.let_go(TOKEN)
        assert next(statuses).status == SERVING
        assert running.result().scores
        assert stub.Score(ids_request(3), timeout=SECONDS).scores
        assert server.stop() == 0


def test_it_can_be_switched_off(llama_folder: Path, machine: HoldingMachine) -> None:
    with machine.start(llama_folder, "--stall-timeout", "0") as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, TOKEN)
        others = ask_in_order(stub, *[held_request(OTHER)] * 3)
        machine.let_go(TOKEN, OTHER)
        assert running.result().scores
        assert [bool(reply.response.scores) for reply in others] == [True] * 3
        assert not [line for line in server.lines if "not serving" in line]
