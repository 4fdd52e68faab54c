"""What cannot be answered in time is not computed, and the server says how much that was."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from holding_machine import (
    READY,
    SECONDS,
    HoldingMachine,
    fill_ready,
    occupy,
    wait_for_depth,
)
from http_client import ask
from processes import ServerProcess
from score_requests import ids_request, slow_request
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from trt_server.scheduling.speed import BatchSpeed
from waiting import wait_until

NOT_COMPUTED = "trt_server_requests_not_computed_total"


@pytest.fixture
def busy_server(slow_folder: Path) -> Iterator[ServerProcess]:
    """With many seconds of work before it, by its own measure."""
    arguments = ("--model", str(slow_folder), "--threads", "1", "--max-queue-size", "512", "--http-port", "0")
    with ServerProcess(*arguments) as server:
        stub = server.wait_until_serving().stub()
        calls = [stub.Score.future(slow_request()) for _ in range(200)]
        wait_until(lambda: server.metrics()["trt_server_queue_depth{onnxruntime}"] >= 190)
        yield server
        for call in calls:
            call.cancel()


def not_computed(server: ServerProcess, engine: str = "onnxruntime") -> dict[str, float]:
    metrics = server.metrics()
    reasons = ("refused_late", "dropped_late", "abandoned", "displaced")
    return {reason: metrics[f"{NOT_COMPUTED}{{{engine},{reason}}}"] for reason in reasons}


def test_what_cannot_be_met_is_refused_at_once(busy_server: ServerProcess) -> None:
    """Of a caller that has much waiting already, on each way in."""
    stub = busy_server.stub()
    refused = stub.Score.future(slow_request(), timeout=2)
    assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "cannot be met" in str(refused.details())
    reply = next(stub.StreamScore(iter([slow_request("late")]), timeout=2))
    assert (reply.id, reply.error.code) == ("late", grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    assert "cannot be met" in reply.error.message
    assert not_computed(busy_server)["refused_late"] == 2
    assert busy_server.metrics()["trt_server_requests_total{DEADLINE_EXCEEDED}"] == 2
    lines = [line for line in busy_server.lines if "deadlines could not be met" in line]
    # At most one a minute.
    assert len(lines) == 1


@pytest.mark.parametrize("header", ["X-Request-Timeout", "X-Stainless-Read-Timeout"])
def test_over_http_a_header_sets_the_deadline(busy_server: ServerProcess, header: str) -> None:
    """48,000 tokens do not take less than a twentieth of a second, whatever waits of others."""
    fields = {"prompt": [[1] * 1500] * 32, "max_tokens": 1, "temperature": 0}
    reply = ask(busy_server, "/v1/completions", fields, {header: "0.05"})
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    assert "cannot be met" in reply.error["message"]
    assert not_computed(busy_server)["refused_late"] == 1


def test_a_header_that_is_no_time_is_refused(http_server: ServerProcess) -> None:
    fields = {"prompt": [1, 2], "max_tokens": 1, "temperature": 0}
    for text in ("soon", "0", "-1", "nan"):
        reply = ask(http_server, "/v1/completions", fields, {"X-Request-Timeout": text})
        assert (reply.status, reply.error["param"]) == (400, "X-Request-Timeout")
    assert ask(http_server, "/v1/completions", fields, {"X-Request-Timeout": "60"}).status == 200


def test_under_overload_what_is_computed_is_in_time(slow_folder: Path) -> None:
    """Many times more than it can do, each with a deadline: nearly all that runs is for who still waits."""

    async def ask_until(server: ServerProcess, enough: int) -> Counter[str]:
        codes: Counter[str] = Counter()
        async with aio.insecure_channel(server.url) as channel:
            stub = pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]

            async def outcome() -> str:
                try:
                    await stub.Score(ids_request(600), timeout=0.5)
                except aio.AioRpcError as error:
                    # A caller that is refused asks again a little later.
                    await asyncio.sleep(0.05)
                    return error.code().name
                return "OK"

            async def ask_on() -> None:
                while codes["OK"] < enough:
                    codes[await outcome()] += 1

            await asyncio.gather(*(ask_on() for _ in range(30)))
        return codes

    with ServerProcess("--model", str(slow_folder), "--threads", "1") as server:
        codes = asyncio.run(ask_until(server.wait_until_serving(), 60))
        computed = server.metrics()["trt_server_batch_size_count{onnxruntime}"]
        refused = not_computed(server)
    assert codes.keys() == {"OK", "DEADLINE_EXCEEDED"}
    assert computed < 2 * codes["OK"]
    assert refused["refused_late"] > 0


def test_who_has_left_is_counted(llama_folder: Path, tmp_path: Path) -> None:
    machine = HoldingMachine.make(tmp_path, (100,))
    with machine.start(llama_folder) as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, 100)
        assembled: Any = fill_ready(server, stub, *[ids_request(3)] * READY)
        gone = [stub.Score.future(ids_request(3), timeout=SECONDS) for _ in range(3)]
        wait_for_depth(server, 3)
        for call in (assembled, *gone):
            call.cancel()
        wait_until(lambda: server.metrics()["trt_server_requests_total{CANCELLED}"] == 5)
        machine.let_go(100)
        assert running.result().scores
        assert stub.Score(ids_request(3)).scores
        assert not_computed(server, "tensorrt") == {
            "refused_late": 0,
            "dropped_late": 0,
            "abandoned": 5,
            "displaced": 0,
        }
        assert server.metrics()["trt_server_batch_size_count{tensorrt}"] == 2


# The speed that all of this goes by.


def test_what_a_batch_takes_follows_from_those_that_were_measured() -> None:
    speed = BatchSpeed()
    assert (speed.seconds(100), speed.most_seconds(100), speed.seconds_per_token) == (0, 0, 0)
    speed.record(100, 1.0)
    assert speed.seconds_per_token == 0.01
    # Of another size: no more than what is certain, and at the most what is likely.
    assert [speed.seconds(10), speed.most_seconds(10)] == pytest.approx([0.1, 1.0])
    assert [speed.seconds(1000), speed.most_seconds(1000)] == pytest.approx([1.0, 10.0])
    speed.record(1000, 4.0)
    assert speed.seconds(1000) == 4.0
    assert speed.seconds(300) == pytest.approx(1.2)
    assert speed.most_seconds(300) == pytest.approx(3.0)
    assert speed.most_seconds(500) == 4.0
    # A tenth of each new one, and half of one that is faster.
    speed.record(1000, 14.0)
    assert speed.seconds(1000) == pytest.approx(5.0)
    speed.record(1000, 3.0)
    assert speed.seconds(1000) == pytest.approx(4.0)
