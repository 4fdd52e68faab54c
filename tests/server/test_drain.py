"""Bursts, and the end of a server: every caller is told why, and the process's status says how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc import aio
from grpc_status import rpc_status
from holding_machine import (
    READY,
    SECONDS,
    HoldingMachine,
    fill_ready,
    held_request,
    occupy,
    wait_for_depth,
)
from processes import ServerProcess
from score_requests import ids_request
from scoring.v1 import scoring_pb2_grpc as pb_grpc
from waiting import wait_until

TOKEN = 100


@pytest.fixture
def machine(tmp_path: Path) -> HoldingMachine:
    return HoldingMachine.make(tmp_path, (TOKEN,))


@pytest.fixture
def usual_hangup() -> Iterator[None]:
    """What these tests start takes SIGHUP, also where they run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def retry_is_told(error: aio.AioRpcError) -> bool:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    status = rpc_status.status_pb2.Status.FromString(details) if isinstance(details, bytes) else None
    return status is not None and any(each.Is(RetryInfo.DESCRIPTOR) for each in status.details)


def test_of_a_burst_all_are_answered_or_told_when_to_ask_again(llama_folder: Path) -> None:
    """More calls at once than gRPC keeps by itself: it would end some of them with a bare CANCELLED."""

    async def burst(server: ServerProcess) -> Counter[str]:
        async with aio.insecure_channel(server.url) as channel:
            stub = pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]

            async def outcome() -> str:
                try:
                    await stub.Score(ids_request(5))
                except aio.AioRpcError as error:
                    return f"{error.code().name}, told to ask again: {retry_is_told(error)}"
                return "OK"

            return Counter(await asyncio.gather(*(outcome() for _ in range(3000))))

    with ServerProcess("--model", str(llama_folder), "--max-queue-size", "16") as server:
        outcomes = asyncio.run(burst(server.wait_until_serving()))
    assert outcomes.keys() == {"OK", "RESOURCE_EXHAUSTED, told to ask again: True"}


def test_every_call_in_a_drain_is_answered_or_unavailable(llama_folder: Path) -> None:
    """From callers that go on asking until the connection is closed."""

    async def ask_until_closed(server: ServerProcess) -> Counter[str]:
        codes: Counter[str] = Counter()
        async with aio.insecure_channel(server.url) as channel:
            stub = pb_grpc.ScoringStub(channel)  # type: ignore[no-untyped-call]

            async def ask() -> None:
                while server.process.poll() is None:
                    try:
                        await stub.Score(ids_request(5), timeout=SECONDS)
                        codes["OK"] += 1
                    except aio.AioRpcError as error:
                        codes[error.code().name] += 1
                    if codes.total() == 100:
                        server.signal(signal.SIGTERM)

            await asyncio.gather(*(ask() for _ in range(40)))
        return codes

    with ServerProcess("--model", str(llama_folder)) as server:
        codes = asyncio.run(ask_until_closed(server.wait_until_serving()))
        assert server.wait() == 0
    assert codes.keys() == {"OK", "UNAVAILABLE"}


@pytest.mark.usefixtures("usual_hangup")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains(llama_folder: Path, machine: HoldingMachine, number: signal.Signals) -> None:
    with machine.start(llama_folder) as server:
        running = occupy(machine, server.wait_until_serving().stub(), TOKEN)
        server.signal(number)
        wait_until(lambda: any("draining" in line for line in server.lines))
        machine.let_go(TOKEN)
        assert running.result().scores
        assert server.wait() == 0


def test_what_nohup_has_ignored_stays_ignored(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), before=("nohup",)) as server:
        stub = server.wait_until_serving().stub()
        server.signal(signal.SIGHUP)
        assert stub.Score(ids_request(5), timeout=SECONDS).scores
        assert server.stop() == 0
    assert len([line for line in server.lines if "draining" in line]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(
    llama_folder: Path, machine: HoldingMachine, number: signal.Signals
) -> None:
    """With a batch that never comes back and a drain that waits for it."""
    with machine.start(llama_folder, "--drain-timeout", "600") as server:
        running = occupy(machine, server.wait_until_serving().stub(), TOKEN)
        server.signal(signal.SIGTERM)
        wait_until(lambda: any("draining" in line for line in server.lines))
        server.signal(number)
        assert server.wait() == 128 + number
        assert running.code() is grpc.StatusCode.UNAVAILABLE
    assert all(line.startswith("{") for line in server.lines), server.lines


def test_a_drain_that_takes_too_long_fails_in_one_line(llama_folder: Path, machine: HoldingMachine) -> None:
    with machine.start(llama_folder, "--drain-timeout", "0.5") as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, TOKEN)
        stream = fill_ready(server, stub, *[held_request(TOKEN)] * READY)
        waiting = [stub.Score.future(ids_request(3), timeout=SECONDS) for _ in range(3)]
        wait_for_depth(server, 3)
        server.signal(signal.SIGTERM)
        assert server.wait() == 4
        for call in (running, *waiting):
            assert call.code() is grpc.StatusCode.UNAVAILABLE
        for _ in range(READY):
            assert next(stream).error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        with pytest.raises(grpc.RpcError) as end:
            next(stream)
        assert end.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopped after --drain-timeout 0.5 s with 6 requests unanswered: status 4" in server.lines[-1]
    assert all(line.startswith("{") for line in server.lines), server.lines
