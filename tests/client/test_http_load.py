"""mmlu-client asks servers over HTTP: again, all at once, when requests are due, and after it was killed."""

from __future__ import annotations

import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from http_double import HttpDouble
from run_files import records, summary, wait_for_records
from tokenizer_kinds import byte_level


@pytest.mark.parametrize("verdict", [429, 503, "cut"])
def test_what_was_not_answered_is_asked_again(
    verdict: Any, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble("vllm", byte_level(), lambda number: verdict if number == 4 else None) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    keys = [(record["subject"], record["index"]) for record in records(output)]
    assert len(set(keys)) == len(keys) == 11


def test_a_request_that_fails_fails_its_questions_alone(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level(), lambda number: 400 if number == 4 else None) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 1
    (failed,) = [record for record in records(output) if record["error"]]
    assert failed["error"] == "INVALID_ARGUMENT: HTTP 400: status 400 was asked for"
    assert summary(output)["answered"] == 10


def test_a_killed_run_goes_on(tokenizer: Path, data: Path, output: Path) -> None:
    arguments = ("--tokenizer", tokenizer, "--data", data, "--output", output)
    with HttpDouble("vllm", byte_level(), lambda number: "hold" if number == 6 else None) as double:
        running = ClientProcess("--url", double.url, *arguments, "--concurrency", "1")
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 6)
        running.signal(signal.SIGKILL)
        running.join()
        port = double.port
    with HttpDouble("vllm", byte_level(), port=port):
        result = client("--resume", output)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11
    assert summary(output)["sessions"] == 2


def test_an_open_loop_sends_when_requests_are_due_over_connections_that_are_kept(
    tokenizer: Path, data: Path, output: Path
) -> None:
    """The first is held until all others are there: nothing waits for an answer."""
    with HttpDouble("vllm", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--concurrency", "2",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        # Two in flight, and one more at the start to look at the server.
        assert len(double.asked) > 11
        assert len(double.connections) <= 3
    with HttpDouble("vllm", byte_level(), lambda number: "hold" if number == 0 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--request-rate", "50",
            "--output", output.with_name("open"), "--arrival-pattern", "constant",
        )  # fmt: skip
        wait_for_records(output.with_name("open"), 10)
        running.signal(signal.SIGTERM)
        running.finish()
    assert len(double.measured) == 11
    times = [record["client_ns"] for record in records(output.with_name("open"))]
    due = sorted(each["due"] for each in times)
    assert all(later - earlier == 20_000_000 for earlier, later in pairwise(due))


def test_stages_that_a_server_does_not_tell_are_no_goal(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--goodput", "core:5",
        )  # fmt: skip
    assert result.returncode == 2
    assert "--goodput core:5: " in the_error(result)
    assert "does not tell this stage of a request: ask for latency" in the_error(result)


def test_several_servers_share_a_sweep(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as one, HttpDouble("vllm", byte_level()) as other:
        result = client(
            "--url", f"{one.url},{other.url}", "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--sweep", "concurrency=2,4",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert one.measured
        assert other.measured
    for load in ("concurrency-2", "concurrency-4"):
        assert summary(output / load)["answered"] == 11
    assert (output / "report.html").is_file()


@pytest.mark.parametrize(
    "answer",
    [[], {"choices": 1}, {"choices": [1]}, {"choices": [{"logprobs": {"tokens": 5}}]},
     {"choices": [{"index": [], "logprobs": {"content": [{"id": [], "top_logprobs": [7]}]}}]},
     {"choices": [{"logprobs": {"tokens": ["token_id:1"], "token_logprobs": [-1.0],
                                "top_logprobs": [{"token_id:1": -(10**400)}]}}]},
     {"choices": [{"logprobs": {"content": [{"id": 2**70, "logprob": -1.0, "top_logprobs": []}]}}]}],
)  # fmt: skip
def test_an_answer_that_is_none_fails_its_question_alone(
    answer: Any, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble(
        "vllm", byte_level(), lambda number: {"answer": answer} if number == 4 else None
    ) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 1
    (failed,) = [record for record in records(output) if record["error"]]
    assert failed["error"].startswith("DATA_LOSS: the server's answer cannot be used: ")
    assert summary(output)["answered"] == 10
