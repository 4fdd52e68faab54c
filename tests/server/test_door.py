"""What comes in by the gRPC port: whatever it is, its caller gets a status, and memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from checkpoints import write_checkpoint
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from http_client import ask
from processes import ServerProcess
from score_requests import ids_prompt, ids_request, request
from scoring.v1 import scoring_pb2 as pb
from waiting import wait_until

StatusCode = grpc.StatusCode
SCORE = "/scoring.v1.Scoring/Score"
STREAM = "/scoring.v1.Scoring/StreamScore"
MIB = 1024 * 1024
NO_MESSAGE = b"\xff\xff\xff"


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> grpc.RpcError:
    """The error of a call that has to fail, as a call of one reply or as a stream."""
    try:
        reply = call(*arguments, timeout=60, **named)
        list(reply if hasattr(reply, "__iter__") else ())
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


def codes(server: ServerProcess) -> dict[str, int]:
    """How many requests were answered with each status, but for those with none."""
    counted = {name: int(value) for name, value in server.metrics().items() if "requests_total" in name}
    return {name.split("{")[1].rstrip("}"): value for name, value in counted.items() if value}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("unary_unary", "/grpc.health.v1.Health/Check"),
        ("unary_stream", "/grpc.health.v1.Health/Watch"),
        ("stream_stream", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
        ("unary_unary", "/scoring.v1.Scoring/GetModel"),
        ("unary_unary", "/scoring.v1.Scoring/GetTokenizer"),
    ],
)
def test_bytes_that_are_no_message_of_any_service(server: ServerProcess, kind: str, path: str) -> None:
    call = getattr(server.channel(), kind)(path)
    error = refusal(call, iter([NO_MESSAGE]) if kind == "stream_stream" else NO_MESSAGE)
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert "cannot be decoded" in str(error.details())


def test_a_message_that_grpc_refuses_is_counted(server: ServerProcess) -> None:
    """It never comes to this program, and its caller is told by gRPC."""
    before = codes(server)
    error = refusal(server.stub().Score, pb.ScoreRequest(id="x" * 5 * MIB))
    assert (error.code(), "larger than max" in str(error.details())) == (StatusCode.RESOURCE_EXHAUSTED, True)
    # The server knows of it a moment later.
    wait_until(lambda: codes(server) != before)
    after = codes(server)
    assert after == {**before, "RESOURCE_EXHAUSTED": before.get("RESOURCE_EXHAUSTED", 0) + 1}


def test_a_call_without_a_message_is_told_so(server: ServerProcess) -> None:
    error = refusal(server.channel().stream_unary(SCORE), iter(()))
    assert (error.code(), error.details()) == (
        StatusCode.INVALID_ARGUMENT,
        "the call has no request: send one message",
    )


def test_other_methods_take_no_large_messages(server: ServerProcess) -> None:
    asked = health_pb2.HealthCheckRequest(service="x" * 100_000)
    error = refusal(health_pb2_grpc.HealthStub(server.channel()).Check, asked)
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert "the limit of this method is 65536" in str(error.details())


def test_health_and_reflection_answer_behind_the_door(server: ServerProcess) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel())
    asked = health_pb2.HealthCheckRequest(service="scoring.v1.Scoring")
    assert stub.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(asked)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    unknown = refusal(stub.Check, health_pb2.HealthCheckRequest(service="x"))
    assert unknown.code() is StatusCode.NOT_FOUND


def edited_tokenizer(folder: Path, **changes: Any) -> Path:
    """A checkpoint whose tokenizer.json has other fields."""
    write_checkpoint(folder, "llama")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


# It takes more steps for a row of this letter than the library allows: it panics.
PANICS_ON_X = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}


def test_a_tokenizer_that_panics_is_the_end_of_its_request_alone(tmp_path: Path) -> None:
    folder = edited_tokenizer(tmp_path, pre_tokenizer=PANICS_ON_X)
    with ServerProcess("--model", str(folder), "--http-port", "0") as server:
        server.wait_until_serving()
        prompt = pb.Prompt(text="x" * 60, candidates=[pb.Candidate(token_id=1)])
        error = refusal(server.stub().Score, request(prompt))
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert "the tokenizers library gives up on a text" in str(error.details())
        (reply,) = server.stub().StreamScore(iter([request(prompt)]))
        assert reply.error.code == StatusCode.INVALID_ARGUMENT.value[0]
        assert codes(server) == {"INVALID_ARGUMENT": 2}
        for path, fields in (
            ("/tokenize", {"prompt": "x" * 60}),
            ("/v1/completions", {"prompt": "x" * 60, "max_tokens": 1, "temperature": 0}),
        ):
            assert ask(server, path, fields).status == 400
        assert server.stub().Score(ids_request(3), timeout=60).scores


@pytest.mark.parametrize("letter", ["z", "é", "😀", "\x00", "%"])
def test_the_text_of_an_error_has_a_length(server: ServerProcess, letter: str) -> None:
    continuation = pb.Continuation(text=letter * 20_000)
    prompt = pb.Prompt(text="Answer: " + letter, continuations=[continuation], shared_prefix_tokens=2**32 - 1)
    error = refusal(server.stub().Score, request(prompt))
    assert error.code() in {StatusCode.INVALID_ARGUMENT, StatusCode.OUT_OF_RANGE}
    assert 0 < len(str(error.details()).encode()) <= 1024
    assert rpc_status.from_call(error) is not None


def test_a_text_that_does_not_follow_its_prompt_is_not_echoed_in_full(server: ServerProcess) -> None:
    # "An" + "swer" is one token: the prompt's own token changes.
    prompt = pb.Prompt(text="\n\nAns", candidates=[pb.Candidate(text="wer" + " é😀" * 10_000)])
    error = refusal(server.stub().Score, request(prompt))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert "does not follow its prompt" in str(error.details())
    assert "wer" in str(error.details())
    assert len(str(error.details()).encode()) < 200


def test_an_id_has_a_length(server: ServerProcess) -> None:
    assert server.stub().Score(ids_request(3, id="é" * 128)).id == "é" * 128
    error = refusal(server.stub().Score, ids_request(3, id="é" * 128 + "x"))
    assert (error.code(), error.details()) == (
        StatusCode.INVALID_ARGUMENT,
        "the request's id has 257 bytes, the limit is 256: send a shorter one",
    )
    (reply,) = server.stub().StreamScore(iter([ids_request(3, id="x" * 3_000_000)]))
    assert reply.error.code == StatusCode.INVALID_ARGUMENT.value[0]
    assert reply.id == "x" * 256
    (reply,) = server.stub().StreamScore(iter([ids_request(3, id="x" + "é" * 300)]))
    assert reply.id == "x" + "é" * 127


def test_limits_on_what_is_tokenized_and_counted_are_told_and_kept(server: ServerProcess) -> None:
    limits = server.stub().GetModel(pb.GetModelRequest()).limits
    assert (limits.max_request_bytes, limits.max_id_bytes) == (4 * MIB, 256)
    assert limits.max_text_bytes == 128 * limits.max_prompt_tokens
    assert limits.max_candidates == 512
    too_long = pb.Prompt(text=" " * (limits.max_text_bytes + 1), candidates=[pb.Candidate(token_id=1)])
    appended = pb.Prompt(
        text="a" * limits.max_text_bytes, candidates=[pb.Candidate(token_id=1), pb.Candidate(text="b")]
    )
    twice = ids_prompt([1], candidates=[5] * (limits.max_candidates + 1))
    for prompts, code, text in (
        (
            [too_long],
            StatusCode.OUT_OF_RANGE,
            f"is a text of {limits.max_text_bytes + 1} bytes, the limit is",
        ),
        ([appended], StatusCode.OUT_OF_RANGE, "and 1 that are appended to it"),
        ([twice], StatusCode.INVALID_ARGUMENT, "has 513 candidates, the limit is 512"),
    ):
        error = refusal(server.stub().Score, request(*prompts))
        assert error.code() is code
        assert text in str(error.details())


def test_texts_that_are_appended_are_counted_before_they_are_tokenized(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--max-batch-size", "9") as server:
        stub = server.wait_until_serving().stub()
        limits = stub.GetModel(pb.GetModelRequest()).limits
        texts = pb.Prompt(text="Answer:", candidates=[pb.Candidate(text=" A")] * limits.max_candidates)
        assert limits.max_appended_texts == 4096 == 8 * limits.max_candidates
        scores = stub.Score(request(*[texts] * 8)).scores
        assert len({*scores[0].candidate_ids}) == 1
        assert [len(score.candidate_ids) for score in scores] == [512] * 8
        error = refusal(stub.Score, request(*[texts] * 9))
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert "more than 4096 candidates and continuations in text" in str(error.details())
