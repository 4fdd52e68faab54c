"""What the HTTP port refuses: OpenAI's error object, its status, and a reason."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import struct
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import trustme
from checkpoints import write_checkpoint
from http_client import DEADLINE_SECONDS, Reply, ask, complete
from processes import ServerProcess, run_program

GREEDY = {"max_tokens": 1, "temperature": 0}
IDS = [1, 2, 3]

BAD_FIELDS: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "no prompt": (GREEDY, "prompt", "send a text"),
    "empty list": ({**GREEDY, "prompt": []}, "prompt", "prompt is empty"),
    "empty prompt": ({**GREEDY, "prompt": [[]]}, None, "prompt 0 is empty"),
    "two kinds": ({**GREEDY, "prompt": ["a", [1]]}, "prompt", "several kinds"),
    "negative id": ({**GREEDY, "prompt": [1, -1]}, "prompt", "prompt[1]: Expected `int` >= 0"),
    "id beyond 32 bits": ({**GREEDY, "prompt": [2**40]}, "prompt", "prompt[0]"),
    "id beyond the vocabulary": ({**GREEDY, "prompt": [512]}, None, "outside the vocabulary of 512"),
    "too long": ({**GREEDY, "prompt": [1] * 2049}, None, "2049 tokens, the limit is 2048"),
    "a later prompt": (
        {**GREEDY, "prompt": [[1]] * 6 + [[512]]}, None, "from prompt 4 on: token id 512 in prompt 2",
    ),
    "no max_tokens": ({"prompt": IDS, "temperature": 0}, "max_tokens", "16 where it is left out"),
    "long completion": ({**GREEDY, "prompt": IDS, "max_tokens": 2}, "max_tokens", "max_tokens is 2"),
    "nothing to reply": ({"prompt": IDS, "max_tokens": 0}, "max_tokens", "without echo"),
    "default temperature": ({"prompt": IDS, "max_tokens": 1}, "temperature", "1 where it is left out"),
    "sampling": ({**GREEDY, "prompt": IDS, "temperature": 0.7}, "temperature", "does not sample"),
    "stream": ({**GREEDY, "prompt": IDS, "stream": True}, "stream", "comes whole"),
    "two completions": ({**GREEDY, "prompt": IDS, "n": 2}, "n", "n 2 is not supported"),
    "best of": ({**GREEDY, "prompt": IDS, "best_of": 3}, "best_of", "one completion a prompt"),
    "suffix": ({**GREEDY, "prompt": IDS, "suffix": "x"}, "suffix", "before a suffix"),
    "stop": ({**GREEDY, "prompt": IDS, "stop": ["x"]}, "stop", "looks for no text"),
    "bias": ({**GREEDY, "prompt": IDS, "logit_bias": {"1": 5}}, "logit_bias", "the most likely one"),
    "priority": ({**GREEDY, "prompt": IDS, "priority": 1}, "priority", "callers share the engine fairly"),
    "penalty": ({**GREEDY, "prompt": IDS, "presence_penalty": 1}, "presence_penalty", "send 0"),
    "too many logprobs": ({**GREEDY, "prompt": IDS, "logprobs": 21}, None, "the limit is 20"),
    "negative logprobs": ({**GREEDY, "prompt": IDS, "logprobs": -1}, "logprobs", ">= 0"),
    "logprobs of a chat": ({**GREEDY, "prompt": IDS, "logprobs": True}, "logprobs", "got `bool`"),
    "no chosen tokens": (
        {**GREEDY, "prompt": IDS, "logprobs": 0, "logprob_token_ids": []}, "logprob_token_ids", "is empty",
    ),
    "chosen tokens without logprobs": (
        {**GREEDY, "prompt": IDS, "logprob_token_ids": [1]}, "logprob_token_ids", "needs logprobs",
    ),
    "chosen tokens of nothing": (
        {"prompt": IDS, "max_tokens": 0, "echo": True, "logprobs": 0, "logprob_token_ids": [1]},
        "logprob_token_ids",
        "send max_tokens 1",
    ),
    "chosen token beyond the vocabulary": (
        {**GREEDY, "prompt": IDS, "logprobs": 0, "logprob_token_ids": [512]},
        None,
        "token id 512 in the candidates",
    ),
    "unknown field": ({**GREEDY, "prompt": IDS, "tempratur": 1}, "tempratur", "unrecognized"),
    "messages": ({**GREEDY, "messages": []}, "messages", "unrecognized"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "text"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_what_cannot_be_done_is_refused(
    http_server: ServerProcess, fields: dict[str, Any], param: str | None, text: str
) -> None:
    reply = ask(http_server, "/v1/completions", fields)
    assert reply.status == 400, reply.content
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["param"] == param
    assert text in reply.error["message"]
    assert "\n" not in reply.error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1, "best_of": 1, "stream": False, "stop": [], "suffix": None, "logit_bias": {}},
        {"frequency_penalty": 0.0, "presence_penalty": 0, "stop": None, "stream_options": None},
        {
            "seed": 7,
            "top_p": 0.3,
            "top_k": 5,
            "min_p": 0.1,
            "user": "me",
            "response_format": {"type": "text"},
        },
        {"temperature": 1.5, "stop": ["x"], "max_tokens": 0, "echo": True},
        {"model": None, "echo": None, "logprobs": None},
    ],
)
def test_what_asks_for_nothing_more_is_taken(http_server: ServerProcess, fields: dict[str, Any]) -> None:
    assert len(complete(http_server, prompt=IDS, **fields)["choices"]) == 1


@pytest.mark.parametrize("body", [b"", b"[", b"[1]", b"\xff\xfe", b'{"prompt": "\\ud800", "max_tokens": 1}'])
def test_a_body_that_is_no_object_is_refused(http_server: ServerProcess, body: bytes) -> None:
    reply = ask(http_server, "/v1/completions", body)
    assert reply.status == 400
    assert "no JSON" in reply.error["message"]


def test_another_model_is_not_found(http_server: ServerProcess) -> None:
    asked: dict[str, dict[str, Any]] = {
        "/v1/completions": {**GREEDY, "prompt": IDS},
        "/tokenize": {"prompt": "a"},
        "/detokenize": {"tokens": IDS},
    }
    for path, fields in asked.items():
        reply = ask(http_server, path, {**fields, "model": "gpt-4"})
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert ask(http_server, "/v1/models/gpt-4").status == 404
    served = ask(http_server, "/v1/models").content["data"][0]["id"]
    assert ask(http_server, f"/v1/models/{served}").content["max_model_len"] == 2048
    assert complete(http_server, prompt=IDS, model=served)["model"] == served


def test_what_is_not_there_says_what_is(http_server: ServerProcess) -> None:
    reply = ask(http_server, "/v1/chat/completions", {"messages": []})
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert "POST /v1/completions" in reply.error["message"]
    reply = ask(http_server, "/v1/completions")
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")


def test_a_body_has_a_largest_size(http_server: ServerProcess) -> None:
    too_large = json.dumps({**GREEDY, "prompt": "a" * 4 * 1024 * 1024}).encode()
    announced = HTTPConnection("127.0.0.1", http_server.ports["http_port"], timeout=DEADLINE_SECONDS)
    announced.putrequest("POST", "/v1/completions")
    announced.putheader("Content-Length", str(len(too_large)))
    announced.endheaders()
    assert json.loads((response := announced.getresponse()).read())["error"]["code"] == "request_too_large"
    assert response.status == 413
    announced.close()
    # And where its size is not announced.
    reply = ask_in_chunks(http_server, too_large)
    assert (reply.status, reply.error["code"]) == (413, "request_too_large")


def ask_in_chunks(server: ServerProcess, body: bytes) -> Reply:
    connection = HTTPConnection("127.0.0.1", server.ports["http_port"], timeout=DEADLINE_SECONDS)
    parts = (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    connection.request(
        "POST", "/v1/completions", parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    response = connection.getresponse()
    reply = Reply(response.status, dict(response.headers), json.loads(response.read()))
    connection.close()
    return reply


def test_a_model_without_a_tokenizer_has_no_text(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "llama", tokenizer=False)
    with ServerProcess("--model", str(folder), "--http-port", "0") as server:
        server.wait_until_serving()
        reply = ask(server, "/v1/completions", {**GREEDY, "prompt": IDS})
        assert (reply.status, reply.error["code"]) == (400, "no_tokenizer")
        assert ask(server, "/tokenizer_info").status == 404
        assert ask(server, "/tokenize", {"prompt": "a"}).status == 404


@pytest.fixture
def slow_server(slow_folder: Path) -> Iterator[ServerProcess]:
    """A server on one thread."""
    with ServerProcess("--model", str(slow_folder), "--threads", "1", "--http-port", "0") as server:
        yield server.wait_until_serving()


# Some tenths of a second of work for the slow checkpoint.
SLOW = {**GREEDY, "prompt": [[(7 * place) % 500 for place in range(1500)]] * 6}


def ask_slowly(pool: ThreadPoolExecutor, server: ServerProcess, count: int) -> list[Future[Reply]]:
    return [pool.submit(ask, server, "/v1/completions", SLOW) for _ in range(count)]


def test_a_full_queue_says_when_to_ask_again(slow_folder: Path) -> None:
    arguments = ("--model", str(slow_folder), "--threads", "1", "--max-queue-size", "1", "--http-port", "0")
    with ServerProcess(*arguments) as server, ThreadPoolExecutor(8) as pool:
        server.wait_until_serving()
        replies = [each.result() for each in ask_slowly(pool, server, 8)]
    refused = [reply for reply in replies if reply.status != 200]
    assert 0 < len(refused) < len(replies)
    for reply in refused:
        assert (reply.status, reply.error["code"]) == (429, "resource_exhausted")
        assert int(reply.headers["Retry-After"]) >= 1


def wait_for(server: ServerProcess, happened: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Ask for the metrics until they say that something happened, which the test's deadline bounds."""
    while not happened(metrics := server.metrics()):
        time.sleep(0.02)
    return metrics


def is_waiting(metrics: dict[str, float]) -> bool:
    """Whether the engine is busy, and a request waits for it."""
    return metrics["trt_server_queue_depth{onnxruntime}"] >= 1


def test_a_caller_that_goes_away_cancels_its_request(slow_server: ServerProcess) -> None:
    body = json.dumps(SLOW).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    address = ("127.0.0.1", slow_server.ports["http_port"])
    callers = [socket.create_connection(address) for _ in range(4)]
    for caller in callers:
        caller.sendall(head + body)
    wait_for(slow_server, is_waiting)
    for caller in callers:
        caller.close()
    names = {name: f"trt_server_requests_total{{{name}}}" for name in ("OK", "CANCELLED")}
    # One whose body was not read yet is not counted at all.
    metrics = wait_for(slow_server, lambda found: found[names["CANCELLED"]] >= 1)
    assert metrics[names["OK"]] + metrics[names["CANCELLED"]] <= 4
    assert ask(slow_server, "/v1/completions", {**GREEDY, "prompt": IDS}).status == 200


HEADERS = ("X-Request-Id", "X-Request-Timeout", "X-Stainless-Read-Timeout")


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_no_text_is_the_callers_fault(http_server: ServerProcess, name: str) -> None:
    counted = "trt_server_requests_total{INVALID_ARGUMENT}"
    before = http_server.metrics()[counted]
    status, body = ask_in_bytes(http_server, b"/v1/completions", name.encode() + b": \xff\xfe")
    assert status == 400
    assert json.loads(body)["error"]["message"].startswith(f"the header {name} is no UTF-8")
    assert http_server.metrics()[counted] == before + 1
    assert "Traceback" not in "".join(http_server.lines)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (b"/v1/completions", b"Authorization: Bearer \xff"),
        (b"/v1/completions", b"User-Agent: \xff"),
        (b"/v1/completions", b"Accept: \xff"),
        (b"/v1/completions", b"Accept-Encoding: \xff"),
        (b"/v1/completions", b"Content-Type: \xff; charset=\xff"),
        (b"/v1/completions", b"Content-Encoding: \xff"),
        (b"/v1/completions", b"Expect: \xff"),
        (b"/v1/completions", b"Cookie: \xff=\xff"),
        (b"/v1/completions?\xff=\xff", b"A: b"),
        (b"/v1/completions?%ff=%ff", b"A: b"),
        (b"/v1/completions\xff", b"A: b"),
        (b"/%ff", b"Host: \xff"),
    ],
)
def test_no_bytes_of_a_request_are_the_servers_fault(
    http_server: ServerProcess, path: bytes, header: bytes
) -> None:
    status, _ = ask_in_bytes(http_server, path, header)
    assert status < 500
    assert "Traceback" not in "".join(http_server.lines)


def ask_in_bytes(server: ServerProcess, path: bytes, header: bytes) -> tuple[int, bytes]:
    """POST a request for a token with one more header; the status and the body of the reply."""
    body = json.dumps({**GREEDY, "prompt": IDS}).encode()
    with socket.create_connection(("127.0.0.1", server.ports["http_port"]), DEADLINE_SECONDS) as caller:
        caller.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\nContent-Length: %d\r\n\r\n%s"
            % (path, header, len(body), body)
        )
        content = b"".join(iter(lambda: caller.recv(65536), b""))
    head, _, reply = content.partition(b"\r\n\r\n")
    return int(head.split()[1]), reply


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": (b"[", "INVALID_ARGUMENT"),
    "unknown field": ({**GREEDY, "prompt": IDS, "tempratur": 1}, "INVALID_ARGUMENT"),
    "another model": ({**GREEDY, "prompt": IDS, "model": "gpt-4"}, "NOT_FOUND"),
    "too large": ({**GREEDY, "prompt": "a" * 5_000_000}, "RESOURCE_EXHAUSTED"),
}


@pytest.mark.parametrize(("fields", "code"), REFUSED.values(), ids=REFUSED)
def test_what_http_refuses_is_counted_once(http_server: ServerProcess, fields: Any, code: str) -> None:
    def counted() -> dict[str, float]:
        found = http_server.metrics().items()
        return {name: value for name, value in found if name.startswith("trt_server_requests_total")}

    before = counted()
    assert ask_in_chunks(http_server, fields if isinstance(fields, bytes) else json.dumps(fields).encode())
    grown = {name: value - before[name] for name, value in counted().items() if value != before[name]}
    assert grown == {f"trt_server_requests_total{{{code}}}": 1}


def test_a_stop_answers_what_was_accepted_and_refuses_what_is_new(slow_server: ServerProcess) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = ask_slowly(pool, slow_server, 4)
        wait_for(slow_server, is_waiting)
        slow_server.signal(signal.SIGTERM)
        while (health := ask(slow_server, "/health")).status == 200:
            pass
        refused = ask(slow_server, "/v1/completions", {**GREEDY, "prompt": IDS})
        statuses = [each.result().status for each in asked]
    assert statuses.count(200) >= 2
    assert {*statuses} <= {200, 503}
    assert (health.status, health.error["code"]) == (503, "unavailable")
    assert (refused.status, refused.error["type"]) == (503, "server_error")
    assert slow_server.wait() == 0


def test_a_server_that_is_loading_says_so(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--http-port", "0") as server:
        server.ports = server.wait_for_event("listening")
        # It may have loaded by now.
        if (reply := ask(server, "/health")).status != 200:
            assert (reply.status, reply.error["code"]) == (503, "unavailable")
        server.wait_until_serving()
        assert ask(server, "/health") == Reply(200, ask(server, "/health").headers, None)


def test_bytes_that_are_no_http_are_refused_and_fill_no_log(http_server: ServerProcess) -> None:
    for content in (
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", http_server.ports["http_port"])) as caller:
            caller.settimeout(DEADLINE_SECONDS)
            caller.sendall(content)
            assert caller.recv(12) == b"HTTP/1.0 400"
    assert ask(http_server, "/health").status == 200
    assert "Traceback" not in "".join(http_server.lines)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_cannot_be_inflated_is_the_callers_fault(
    http_server: ServerProcess, encoding: str
) -> None:
    reply = ask(http_server, "/v1/completions", b"\xff" * 100, {"Content-Encoding": encoding})
    assert reply.status == 400
    assert "the body is not what its headers say" in reply.error["message"]
    assert "Traceback" not in "".join(http_server.lines)


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_callers_who_leave_in_the_middle_of_a_body_fill_no_log(llama_folder: Path, leave: str) -> None:
    with ServerProcess("--model", str(llama_folder), "--http-port", "0") as server:
        address = ("127.0.0.1", server.wait_until_serving().ports["http_port"])
        for _ in range(10):
            with socket.create_connection(address, timeout=DEADLINE_SECONDS) as caller:
                # That it is told to go on shows that the server reads the body.
                caller.sendall(
                    b"POST /tokenize HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
                )
                assert caller.recv(12) == b"HTTP/1.1 100"
                caller.sendall(b"{")
                if leave == "reset":
                    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ask(server, "/health").status == 200
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.lines)


def test_there_is_no_port_unless_it_is_asked_for(server: ServerProcess) -> None:
    assert "http_port" not in server.ports


def test_a_port_in_use_is_told(http_server: ServerProcess) -> None:
    taken = str(http_server.ports["http_port"])
    done = run_program(
        "trt-server", "--model", "demo", "--grpc-port", "0", "--metrics-port", "0", "--http-port", taken
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"trt-server: error: cannot listen on 127.0.0.1:{taken}: the port is in use; choose another --host "
        "or --http-port"
    )


def test_tls_with_the_certificate_of_grpc(llama_folder: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = (
        "--model",
        str(llama_folder),
        "--tls-cert",
        str(chain),
        "--tls-key",
        str(key),
        "--http-port",
        "0",
    )
    with ServerProcess(*arguments) as server:
        port = server.wait_until_serving().ports["http_port"]
        request = urllib.request.Request(
            f"https://127.0.0.1:{port}/v1/completions", json.dumps({**GREEDY, "prompt": IDS}).encode()
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS, context=context) as response:
            assert json.loads(response.read())["usage"]["total_tokens"] == 4
        assert f"completions on https://127.0.0.1:{port}/v1" in "".join(server.lines)
