"""What requests take together is bounded: while they are received, inflated, parsed, queued and answered."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from http_client import DEADLINE_SECONDS, ask
from processes import ServerProcess, run_program
from raw_grpc import RawConnection, message_head
from score_requests import ids_prompt, ids_request, request
from scoring.v1 import scoring_pb2 as pb

StatusCode = grpc.StatusCode
SCORE = "/scoring.v1.Scoring/Score"
MIB = 1024 * 1024
USED = "trt_server_request_memory_bytes"

Start = Callable[..., ServerProcess]


@pytest.fixture
def start(llama_folder: Path) -> Iterator[Start]:
    """Starts servers of the small checkpoint."""
    started: list[ServerProcess] = []

    def make(*arguments: str) -> ServerProcess:
        started.append(ServerProcess("--model", str(llama_folder), *arguments))
        return started[-1].wait_until_serving()

    yield make
    for process in started:
        process.kill()


def peak_mib(server: ServerProcess) -> float:
    """The most memory that the server's process has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def used(server: ServerProcess) -> float:
    return server.metrics()[USED]


def wait_until(server: ServerProcess, happened: Callable[[float], bool]) -> None:
    """Ask for the memory that requests take until it is so, which the test's deadline bounds."""
    while not happened(used(server)):
        time.sleep(0.02)


def send_large(server: ServerProcess, compression: grpc.Compression) -> str:
    """The status of a request whose id is four million bytes, over a connection of its own."""
    content = pb.ScoreRequest(id="x" * 4_000_000).SerializeToString()
    with server.channel() as channel:
        call: Any = channel.unary_unary(SCORE)
        try:
            call(content, compression=compression, timeout=60, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_flood_of_large_messages_takes_no_more_than_there_is(
    start: Start, compression: grpc.Compression
) -> None:
    server = start("--request-memory", "64MiB")
    assert send_large(server, compression) == "INVALID_ARGUMENT"
    one = peak_mib(server)
    with ThreadPoolExecutor(60) as pool:
        statuses = Counter(pool.map(lambda _: send_large(server, compression), range(120)))
    assert set(statuses) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    # 120 of them, each with copies of four million bytes, are 480 MB and more. Beside the budget a connection
    # has buffers of its own.
    assert peak_mib(server) - one < 64 + 60 * 4
    wait_until(server, lambda taken: taken == 0)
    assert server.stub().Score(ids_request(3), timeout=60).scores


def test_a_message_that_is_larger_when_inflated_is_refused(start: Start) -> None:
    server = start("--max-request-bytes", "1MiB", "--request-memory", "32MiB")
    assert server.stub().GetModel(pb.GetModelRequest()).limits.max_request_bytes == MIB
    one = peak_mib(server)
    bomb = pb.ScoreRequest(id="x" * 60 * MIB).SerializeToString()
    call: Any = server.channel().unary_unary(SCORE)
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as caught:
            call(bomb, compression=grpc.Compression.Gzip, timeout=60)
        assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert peak_mib(server) - one < 60


def test_a_body_that_does_not_come_is_given_up(start: Start) -> None:
    server = start("--receive-timeout", "0.5")
    with RawConnection(server) as connection:
        for path in (SCORE, "/grpc.health.v1.Health/Check"):
            stream = connection.begin(path)
            connection.send(stream, message_head(2 * MIB) + b"x" * 50_000)
            trailers = connection.until_end(stream)
            assert b"the request has not come whole in 0.5 s" in trailers
    metrics = server.metrics()
    assert metrics["trt_server_requests_total{DEADLINE_EXCEEDED}"] == 1
    assert metrics[USED] == 0


def test_the_help_says_what_a_message_on_its_way_counts_as(start: Start) -> None:
    told = re.search(
        r"it counts as (\d+) times the longest", " ".join(run_program("trt-server", "--help").stdout.split())
    )
    assert told is not None
    server = start("--max-request-bytes", "1MiB")
    with RawConnection(server) as connection:
        connection.send(connection.begin(SCORE), message_head(MIB) + b"x" * 100)
        wait_until(server, lambda taken: taken == int(told[1]) * MIB)


def test_half_sent_bodies_make_way_for_those_who_wait(start: Start) -> None:
    # Room for eight messages that are on their way.
    server = start("--request-memory", "64MiB", "--receive-timeout", "600")
    with RawConnection(server) as connection:
        streams = [connection.begin(SCORE) for _ in range(8)]
        for stream in streams:
            connection.send(stream, message_head(2 * MIB) + b"x" * 100)
        wait_until(server, lambda taken: taken == 64 * MIB)
        health = health_pb2_grpc.HealthStub(server.channel())
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=60).status
        assert server.stub().Score(ids_request(3), timeout=60).scores
        assert b"others need the memory" in connection.until_end(streams[0])
    # The connection is closed, and with it the other calls.
    wait_until(server, lambda taken: taken == 0)


def test_an_idle_stream_makes_way_too_and_says_when_to_come_back(start: Start) -> None:
    server = start("--request-memory", "64MiB", "--receive-timeout", "0.5")
    calls = []
    for number in range(8):
        call = server.stub().StreamScore(_one_then_nothing(ids_request(3, id=str(number))))
        assert next(call).id == str(number)
        calls.append(call)
    wait_until(server, lambda taken: taken == 64 * MIB)
    assert server.stub().Score(ids_request(3), timeout=60).scores
    with pytest.raises(grpc.RpcError) as caught:
        next(calls[0])
    assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
    status, retry = rpc_status.from_call(caught.value), RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() > 0


def _one_then_nothing(first: pb.ScoreRequest) -> Iterator[pb.ScoreRequest]:
    yield first
    threading.Event().wait(60)


def test_requests_that_wait_count_until_they_are_answered(slow_folder: Path) -> None:
    """Each has token ids of 36 kB or so, and there is room for about two."""
    prompts = [ids_prompt([(7 * place) % 500 for place in range(1500)]) for _ in range(12)]
    arguments = ("--request-memory", "1MiB", "--max-request-bytes", "65536", "--threads", "1")
    with ServerProcess("--model", str(slow_folder), *arguments) as server:
        server.wait_until_serving()
        calls = [server.stub().Score.future(request(*prompts), timeout=60) for _ in range(12)]
        errors = [error for call in calls if (error := call.exception()) is not None]
        assert 0 < len(errors) < 12
        for error in errors:
            assert error.code() is StatusCode.RESOURCE_EXHAUSTED
            assert "larger --request-memory" in str(error.details())
        wait_until(server, lambda taken: taken == 0)


def test_a_caller_who_leaves_gives_back_what_its_text_took(start: Start) -> None:
    server = start()
    # No blank in it: it is tokenized whole for each text that is appended, which takes seconds for each call.
    long = "zQ" * 900
    texts = [pb.Candidate(text=" A")] * 512
    calls = [
        server.stub().Score.future(request(*[pb.Prompt(text=long, candidates=texts)] * 8), timeout=60)
        for _ in range(6)
    ]
    wait_until(server, lambda taken: taken > 0)
    assert server.stub().Score(request(pb.Prompt(text="a b", candidates=texts[:1])), timeout=60).scores
    for call in calls:
        call.cancel()
    wait_until(server, lambda taken: taken == 0)
    assert server.metrics()["trt_server_requests_total{CANCELLED}"] == 6
    assert server.stop() == 0


def test_a_large_request_is_answered_as_a_small_one(server: ServerProcess) -> None:
    """Beside the event loop: as many candidates as there may be, and every token's likeliest."""
    prompts = [ids_prompt([1, 2, 3 + number], candidates=range(512)) for number in range(8)]
    long = ids_prompt([(7 * place) % 500 for place in range(1800)], candidates=[1])
    long.all_tokens, long.top_tokens = True, 20
    together = server.stub().Score(request(*[long] * 8), timeout=60).scores
    (alone,) = server.stub().Score(request(long), timeout=60).scores
    assert list(together[5].own_tokens.top_token_ids) == list(alone.own_tokens.top_token_ids)
    assert len(alone.own_tokens.top_token_ids) == 1799 * 20
    for prompt, score in zip(prompts, server.stub().Score(request(*prompts)).scores, strict=True):
        (same,) = server.stub().Score(request(prompt)).scores
        assert list(score.candidate_logprobs) == pytest.approx(list(same.candidate_logprobs), abs=1e-4)
    assert used(server) == 0


def test_limits_that_do_not_fit_together_are_refused() -> None:
    for arguments, text in (
        (("--max-request-bytes", "1000"), "--max-request-bytes 1000 is not from 65536 to 2147483647"),
        (("--request-memory", "40MiB"), "--request-memory 41943040 is less than one request takes, 50331648"),
    ):
        done = run_program("trt-server", *arguments)
        assert done.returncode == 2
        assert text in done.stderr.splitlines()[-1]


def test_an_http_body_that_does_not_come_is_given_up(start: Start) -> None:
    server = start("--http-port", "0", "--receive-timeout", "0.5")
    address = ("127.0.0.1", server.ports["http_port"])
    with socket.create_connection(address, timeout=DEADLINE_SECONDS) as caller:
        caller.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        reply = caller.makefile("rb")
        assert reply.readline().split()[1] == b"408"
        content = reply.read().split(b"\r\n\r\n")[1]
    assert json.loads(content)["error"]["code"] == "request_timeout"
    assert used(server) == 0


def test_http_bodies_and_replies_count_too(start: Start) -> None:
    server = start("--http-port", "0", "--request-memory", "4MiB", "--max-request-bytes", "256KiB")
    ids = [[(7 * place) % 500 for place in range(1500)]] * 16
    fields = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 20}
    reply = ask(server, "/v1/completions", fields)
    assert (reply.status, reply.error["code"]) == (429, "resource_exhausted")
    assert int(reply.headers["Retry-After"]) >= 1
    assert ask(server, "/v1/completions", {**fields, "prompt": ids[0][:100]}).status == 200
    assert used(server) == 0


def test_an_http_body_is_as_large_as_it_is_inflated(http_server: ServerProcess) -> None:
    one = peak_mib(http_server)
    body = gzip.compress(b'{"prompt": "' + b"x" * 60 * MIB + b'"}')
    asked = urllib.request.Request(http_server.http + "/v1/completions", body, {"Content-Encoding": "gzip"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=DEADLINE_SECONDS)
    assert caught.value.code == 413
    assert peak_mib(http_server) - one < 40


def test_http_has_bounds_of_its_own(http_server: ServerProcess) -> None:
    greedy = {"max_tokens": 1, "temperature": 0}
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/completions", {**greedy, "prompt": [[1]] * 2049}, "a list of 2049, the limit is 2048"),
        (
            "/v1/completions",
            {**greedy, "prompt": "a", "request_id": "x" * 252},
            "257 bytes, the limit is 256",
        ),
        ("/tokenize", {"prompt": "a" * (MIB + 1)}, "1048577 bytes, the limit is 1048576"),
        ("/detokenize", {"tokens": [1] * 262_145}, "262145 ids, the limit is 262144"),
        ("/v1/completions", {**greedy, "prompt": "a", "x" * 100_000: 1}, "unrecognized request argument"),
        ("/v1/completions", {**greedy, "prompt": "a", "n": ["é" * 9] * 20_000}, "n ["),
    ]
    for path, fields, text in refused:
        reply = ask(http_server, path, fields)
        assert reply.status == 400
        assert text in reply.error["message"]
        assert len(reply.error["message"].encode()) <= 1024
    deep = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert ask(http_server, "/v1/completions", deep).status == 400
    many = ask(http_server, "/v1/completions", {**greedy, "prompt": [[1, 2]] * 2048})
    assert len(many.content["choices"]) == 2048
