"""Every error of the contract through a real channel: its status, and what its text tells."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import grpc
import pytest
from checkpoints import write_checkpoint
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from holding_machine import (
    READY,
    SECONDS,
    HoldingMachine,
    fill_ready,
    occupy,
    wait_for_depth,
)
from processes import ServerProcess
from score_requests import ids_prompt, ids_request, request, slow_request
from scoring.v1 import scoring_pb2 as pb
from waiting import wait_until

StatusCode = grpc.StatusCode
# Begins a batch that is held until the test lets it go.
HELD = 100


def text_candidate(prompt: pb.Prompt) -> pb.Prompt:
    prompt.candidates.add(text=" A")
    return prompt


BAD_REQUESTS = {
    "no prompts": (pb.ScoreRequest(), StatusCode.INVALID_ARGUMENT, "no prompts"),
    "empty prompt": (request(ids_prompt([])), StatusCode.INVALID_ARGUMENT, "prompt 0 is empty"),
    "no content": (
        request(pb.Prompt(candidates=[pb.Candidate(token_id=1)])),
        StatusCode.INVALID_ARGUMENT,
        "prompt 0 is empty",
    ),
    "token outside the vocabulary": (
        request(ids_prompt([1, 512])),
        StatusCode.INVALID_ARGUMENT,
        "token id 512 in prompt 0 is outside the vocabulary of 512",
    ),
    "candidate outside the vocabulary": (
        request(ids_prompt([1], candidates=[4_000_000_000])),
        StatusCode.INVALID_ARGUMENT,
        "token id 4000000000 in the candidates of prompt 0",
    ),
    "no candidates": (request(ids_prompt([1], candidates=[])), StatusCode.INVALID_ARGUMENT, "no candidates"),
    "empty candidate": (
        request(pb.Prompt(token_ids=pb.TokenIds(ids=[1]), candidates=[pb.Candidate()])),
        StatusCode.INVALID_ARGUMENT,
        "empty candidate",
    ),
    "text candidate of an id prompt": (
        request(text_candidate(ids_prompt([1]))),
        StatusCode.INVALID_ARGUMENT,
        "token id",
    ),
    "too many prompts": (ids_request(*[3] * 9), StatusCode.INVALID_ARGUMENT, "the limit is 8"),
    "prefix longer than its prompt": (
        request(pb.Prompt(token_ids=pb.TokenIds(ids=[1]), shared_prefix_tokens=2)),
        StatusCode.INVALID_ARGUMENT,
        "shared prefix of 2",
    ),
    "prompt too long": (
        ids_request(4, 2049),
        StatusCode.OUT_OF_RANGE,
        "prompt 1 has 2049 tokens, the limit is 2048, all that the model takes: shorten it",
    ),
    "no reference engine": (
        pb.ScoreRequest(prompts=[ids_prompt([1])], engine=pb.ENGINE_ROLE_REFERENCE),
        StatusCode.UNIMPLEMENTED,
        "--reference torch",
    ),
}


@pytest.mark.parametrize(("bad", "code", "text"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_request(server: ServerProcess, bad: pb.ScoreRequest, code: StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.stub().Score(bad)
    assert caught.value.code() is code
    assert text in str(caught.value.details())
    assert "\n" not in str(caught.value.details())


def test_limit_that_was_set_is_not_the_models(llama_folder: Path) -> None:
    arguments = ("--model", str(llama_folder), "--max-prompt-tokens", "100")
    with ServerProcess(*arguments) as server, pytest.raises(grpc.RpcError) as caught:
        server.wait_until_serving().stub().Score(ids_request(101))
    assert caught.value.code() is StatusCode.OUT_OF_RANGE
    assert str(caught.value.details()) == (
        "prompt 0 has 101 tokens, the limit is 100: shorten it, or start the server with a larger "
        "--max-prompt-tokens (the model takes 2048)"
    )


NO_MESSAGE = b"\xff\xff\xff"


def test_bytes_that_are_no_request(server: ServerProcess) -> None:
    call: Any = server.channel().unary_unary("/scoring.v1.Scoring/Score")
    with pytest.raises(grpc.RpcError) as caught:
        call(NO_MESSAGE)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in str(caught.value.details())


def test_bytes_that_are_no_request_end_their_stream_after_what_came_before(server: ServerProcess) -> None:
    call: Any = server.channel().stream_stream("/scoring.v1.Scoring/StreamScore")
    replies = call(iter([ids_request(3, id="a").SerializeToString(), NO_MESSAGE]))
    assert pb.StreamScoreResponse.FromString(next(replies)).id == "a"
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT


@pytest.fixture
def slow_server(slow_folder: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers of the slow checkpoint, on one thread."""
    started: list[ServerProcess] = []

    def start(*arguments: str) -> ServerProcess:
        started.append(ServerProcess("--model", str(slow_folder), "--threads", "1", *arguments))
        return started[-1].wait_until_serving()

    yield start
    for process in started:
        process.kill()


def test_full_queue_says_when_to_ask_again(slow_server: Callable[..., ServerProcess]) -> None:
    server = slow_server("--max-queue-size", "1")
    calls = [server.stub().Score.future(slow_request()) for _ in range(8)]
    refused = [error for call in calls if (error := call.exception()) is not None]
    assert 0 < len(refused) < len(calls)
    for error in refused:
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "holds 1 requests" in str(error.details())
        retry = RetryInfo()
        status = rpc_status.from_call(error)
        assert status is not None
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToNanoseconds() > 0


def test_stream_window_keeps_a_stream_from_filling_the_queue(
    slow_server: Callable[..., ServerProcess],
) -> None:
    server = slow_server("--max-queue-size", "2", "--stream-window", "2")
    requests = [ids_request(400, id=str(number)) for number in range(20)]
    replies = list(server.stub().StreamScore(iter(requests)))
    assert len(replies) == 20
    assert all(reply.WhichOneof("outcome") == "response" for reply in replies)


def test_abandoned_requests_are_not_computed(slow_server: Callable[..., ServerProcess]) -> None:
    server = slow_server()
    stub = server.stub()
    first = stub.Score.future(slow_request())
    gone = [stub.Score.future(slow_request(), timeout=0.2) for _ in range(5)]
    for call in gone:
        assert call.exception().code() is StatusCode.DEADLINE_EXCEEDED
    first.result()
    stub.Score(ids_request(1))
    metrics = server.metrics()
    assert metrics["trt_server_requests_total{OK}"] == 2
    assert metrics["trt_server_tokens_total{onnxruntime,computed}"] == 6 * 1500 + 1


@pytest.fixture
def machine(tmp_path: Path) -> HoldingMachine:
    return HoldingMachine.make(tmp_path, (HELD,))


def test_a_deadline_that_passes_is_counted_apart_from_a_caller_who_gives_up(
    llama_folder: Path, machine: HoldingMachine
) -> None:
    with machine.start(llama_folder) as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, HELD)
        assembled = fill_ready(server, stub, *[ids_request(3)] * READY)
        given_up = stub.Score.future(ids_request(3), timeout=SECONDS)
        # Long enough for them to come to the server.
        late = [stub.Score.future(ids_request(3), timeout=seconds) for seconds in (2, 3)]
        late_stream = stub.StreamScore(iter([ids_request(3, id="a"), ids_request(4, id="b")]), timeout=3)
        wait_for_depth(server, 5)
        given_up.cancel()
        for call in (*late, late_stream):
            assert call.exception().code() is StatusCode.DEADLINE_EXCEEDED
        machine.let_go(HELD)
        assert running.result().scores
        assert all(reply.response.scores for reply in assembled)
        total = "trt_server_requests_total"
        # The server knows of a caller who has left a moment after the caller does.
        wait_until(lambda: server.metrics()[f"{total}{{CANCELLED}}"] == 1)
        wait_until(lambda: server.metrics()[f"{total}{{DEADLINE_EXCEEDED}}"] == 4)
        assert server.metrics()[f"{total}{{OK}}"] == 1 + READY


def test_drain_answers_what_was_accepted_and_refuses_the_rest(
    llama_folder: Path, machine: HoldingMachine
) -> None:
    with machine.start(llama_folder) as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, HELD)
        assembled = fill_ready(server, stub, *[ids_request(3)] * READY)
        waiting = [stub.Score.future(ids_request(3, 4), timeout=SECONDS) for _ in range(2)]
        wait_for_depth(server, 2)
        refusal = _refusal_of_a_draining_server(server, stub)
        assert refusal.code() is StatusCode.UNAVAILABLE
        assert "draining" in str(refusal.details())
        machine.let_go(HELD)
        assert len(running.result().scores) == 1
        assert [len(next(assembled).response.scores) for _ in range(READY)] == [1] * READY
        assert [len(call.result().scores) for call in waiting] == [2, 2]
        assert server.wait() == 0


def test_drain_ends_a_stream_with_its_accepted_requests_answered(
    slow_server: Callable[..., ServerProcess],
) -> None:
    server = slow_server("--stream-window", "2")
    answered: list[str] = []
    refused: list[int] = []
    first_reply, hold_open = threading.Event(), threading.Event()

    def requests() -> Iterator[pb.ScoreRequest]:
        for number in range(50):
            yield ids_request(600, id=str(number))
        hold_open.wait(60)

    def read() -> grpc.RpcError | None:
        try:
            for reply in server.stub().StreamScore(requests()):
                if reply.WhichOneof("outcome") == "response":
                    answered.append(reply.id)
                else:
                    refused.append(reply.error.code)
                first_reply.set()
        except grpc.RpcError as error:
            return error
        return None

    ends: list[grpc.RpcError | None] = []
    reader = threading.Thread(target=lambda: ends.append(read()))
    reader.start()
    first_reply.wait(60)
    server.signal(signal.SIGTERM)
    reader.join(60)
    hold_open.set()
    assert ends[0] is not None
    assert ends[0].code() is StatusCode.UNAVAILABLE
    assert 0 < len(answered) < 50
    # Those on their way in when the signal came.
    assert set(refused) <= {StatusCode.UNAVAILABLE.value[0]}
    assert server.wait() == 0
    assert len(answered) == len(set(answered))


def test_a_draining_server_reads_no_more_from_a_stream(llama_folder: Path, machine: HoldingMachine) -> None:
    draining = threading.Event()

    def requests() -> Iterator[pb.ScoreRequest]:
        for number in range(4):
            yield ids_request(3, id=str(number))
        draining.wait(60)
        yield ids_request(1, id="late")

    with machine.start(llama_folder) as server:
        stub = server.wait_until_serving().stub()
        running = occupy(machine, stub, HELD)
        fill_ready(server, stub, *[ids_request(3)] * READY)
        replies = stub.StreamScore(requests())
        wait_for_depth(server, 4)
        _refusal_of_a_draining_server(server, stub)
        draining.set()
        machine.let_go(HELD)
        assert running.result().scores
        # In any order.
        answered = [next(replies) for _ in range(4)]
        assert {reply.id for reply in answered} == {"0", "1", "2", "3"}
        assert {reply.WhichOneof("outcome") for reply in answered} == {"response"}
        with pytest.raises(grpc.RpcError, match="draining"):
            next(replies)
        assert server.wait() == 0


@contextmanager
def held_up_start(folder: Path) -> Iterator[tuple[ServerProcess, TextIO]]:
    """A server that waits for the lock on its converted weights, and the lock, held by us."""
    model = write_checkpoint(folder / "model", "llama", dtype="bfloat16")
    cache = {"TRT_SERVER_CACHE": str(folder / "cache")}
    with ServerProcess("--model", str(model), environment=cache) as server:
        server.wait_until_serving().stop()
    (lock,) = (folder / "cache").rglob("*.lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with ServerProcess("--model", str(model), environment=cache) as server:
            yield server, held


def test_until_loaded_the_service_is_unavailable_and_not_serving(tmp_path: Path) -> None:
    """Loading is held up where a server waits for another one that converts the same weights."""
    with held_up_start(tmp_path) as (server, held):
        server.ports = server.wait_for_event("listening")
        channel = server.channel()
        asked = health_pb2.HealthCheckRequest(service="scoring.v1.Scoring")
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for call in (server.stub().Score, server.stub().GetModel):
            with pytest.raises(grpc.RpcError) as caught:
                call(ids_request(1) if call._method.endswith(b"Score") else pb.GetModelRequest())
            assert caught.value.code() is StatusCode.UNAVAILABLE
            assert "being loaded" in str(caught.value.details())
        fcntl.flock(held, fcntl.LOCK_UN)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert server.stub().Score(ids_request(1)).scores


def test_stop_while_loading(tmp_path: Path) -> None:
    with held_up_start(tmp_path) as (server, _):
        server.wait_for_event("listening")
        assert server.stop() == 0


def _refusal_of_a_draining_server(server: ServerProcess, stub: Any) -> Any:
    """Have it take no more work, and return what a caller is told then."""
    server.signal(signal.SIGTERM)
    wait_until(lambda: any("draining" in line for line in server.lines))
    return stub.Score.future(ids_request(1), timeout=SECONDS).exception()
