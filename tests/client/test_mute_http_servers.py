"""Servers over HTTP that say nothing, say no without end, or say what cannot be."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from client_process import client, the_error
from http_double import HttpDouble, Kind, Verdict
from mmlu import write_benchmark
from run_files import page, records, summary
from test_hostile_servers import CONTROL, HOSTILE
from test_mute_servers import ForgetfulRouter
from tokenizer_kinds import byte_level

EXACT: tuple[Kind, ...] = ("vllm", "sglang")


class Computing(HttpDouble):
    """It tells its model and answers no prompt."""

    async def _answered(self, request: web.Request, answer: Callable[[dict[str, Any]], Any]) -> web.Response:
        await self.over.wait()
        return await super()._answered(request, answer)


class Described(HttpDouble):
    """Its list of models has what a test says."""

    def __init__(self, card: dict[str, Any]) -> None:
        super().__init__("vllm", byte_level())
        self._card = card

    async def _models(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"data": [{"id": "double", "owned_by": "vllm", **self._card}]})


@pytest.mark.parametrize("kind", EXACT)
def test_a_server_that_answers_nothing_ends_the_run_with_what_there_is(
    kind: Kind, tokenizer: Path, data: Path, output: Path
) -> None:
    with HttpDouble(kind, byte_level(), lambda number: "hold" if number >= 4 else None) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--request-timeout", "1", "--concurrency", "1",
        )  # fmt: skip
    assert result.returncode == 1
    assert the_error(result) == (
        "the server broke 3 streams in a row without an answer: no answer in 1 s; --request-timeout sets "
        f"how long; --resume {output} goes on with it"
    )
    assert len(records(output)) == 4
    with HttpDouble(kind, byte_level()) as again:
        result = client("--resume", output, "--url", again.url)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11


def test_connections_that_go_mute_are_replaced_while_new_ones_work(
    tokenizer: Path, data: Path, output: Path
) -> None:
    """The fifth request is there when the router forgets every connection, those that are idle too."""

    def decide(number: int) -> Verdict:
        if number == 4:
            router.forget()
        return None

    with HttpDouble("vllm", byte_level(), decide) as double, ForgetfulRouter(double.port) as router:
        result = client(
            "--url", f"http://{router.url}", "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--concurrency", "1", "--request-timeout", "1", "--server-timeout", "30",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (
        f"the stream to {router.url} broke (no answer in 1 s; --request-timeout sets how long); "
        "asking its 1 open requests again" in result.stderr
    )
    figures = summary(output)
    assert (figures["answered"], figures["interruptions"], figures["timeouts"]) == (11, 1, 1)


def test_an_answer_that_never_comes_is_asked_for_again(tokenizer: Path, tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 30})
    with HttpDouble("vllm", byte_level(), lambda number: "hold" if number == 2 else None) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--request-timeout", "1", "--concurrency", "4",
        )  # fmt: skip
        asked = len(double.measured)
    assert result.returncode == 0, result.stderr
    assert sorted(record["index"] for record in records(output)) == list(range(30))
    figures = summary(output)
    assert (figures["interruptions"], figures["timeouts"]) == (0, 1)
    assert asked >= 31
    assert "time-outs: 1 answers took too long and were asked for again" in page(output)


def test_a_queue_that_stays_full_ends_the_run(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level(), lambda number: 429 if number >= 4 else None) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--request-timeout", "1",
        )  # fmt: skip
        port = double.port
    assert result.returncode == 1
    assert the_error(result) == (
        f"127.0.0.1:{port} refused requests and answered none for 1 s, because its queue is full: ask it "
        f"when it has less to do, or give a longer --request-timeout; --resume {output} goes on with it"
    )
    assert len(records(output)) == 4
    assert summary(output)["refusals"] >= 1


@pytest.mark.parametrize("kind", [*EXACT, "llama.cpp"])
def test_a_server_that_never_answers_the_known_prompt_is_not_waited_for_without_end(
    kind: Kind, tokenizer: Path, data: Path, output: Path
) -> None:
    with Computing(kind, byte_level()) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--request-timeout", "1",
        )  # fmt: skip
    assert result.returncode == 1
    assert the_error(result) == (
        f"{double.url} does not answer a known prompt in 1 s: see whether it computes, or give a longer "
        "--request-timeout"
    )
    assert not output.exists()


def test_a_port_that_says_nothing_is_given_up(tokenizer: Path, data: Path, output: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        result = client(
            "--url", url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--server-timeout", "2",
        )  # fmt: skip
    assert result.returncode == 1
    assert the_error(result).startswith(
        f"no answer from {url} within 2 s (nothing answers): start the server"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"core_ns": -5}, "core took -5 ns"),
        ({"flops": 2**64 - 1}, f"a prompt took {2**64 - 1} floating-point operations"),
        ({"computed_tokens": -1}, "-1 tokens of a prompt of 272 were computed"),
    ],
)
def test_timings_that_cannot_be_fail_their_question_alone(
    changed: dict[str, int], said: str, tokenizer: Path, data: Path, output: Path
) -> None:
    stages = ("tokenize", "queue", "assemble", "copy_in", "core", "copy_out", "total")
    good = {**{f"{stage}_ns": 1000 for stage in stages}, "computed_tokens": 10, "flops": 1000}

    def change(answer: dict[str, Any]) -> None:
        answer["timings"] = [good | changed if len(double.measured) == 5 else good]

    with HttpDouble("vllm", byte_level(), change=change) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--concurrency", "1",
        )  # fmt: skip
    assert result.returncode == 1
    (failed,) = [record for record in records(output) if record["error"]]
    assert failed["error"] == f"DATA_LOSS: the server's answer cannot be: {said}"
    assert summary(output)["answered"] == 10


@pytest.mark.parametrize("longest", [-5, 2**70])
def test_a_model_that_cannot_be_is_refused(longest: int, tokenizer: Path, data: Path, output: Path) -> None:
    with Described({"max_model_len": longest}) as double:
        result = client("--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output)
    assert result.returncode == 1
    assert the_error(result) == (
        f"{double.url} describes its model with what cannot be: max_prompt_tokens is {longest - 1}"
    )
    assert not double.measured


def test_no_text_of_a_server_controls_the_terminal(tokenizer: Path, data: Path, output: Path) -> None:
    with Described({"id": HOSTILE, "owned_by": HOSTILE}) as double:
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output, "--verbose"
        )
        assert {body["model"] for body in double.asked} == {HOSTILE}
    assert result.returncode == 0, result.stderr
    shown = re.sub(r"<script.*?</script>", "", page(output), flags=re.DOTALL)
    for text in (result.stdout, result.stderr, shown):
        assert not CONTROL.search(text)


def test_counters_that_cannot_be_are_refused(tokenizer: Path, data: Path, output: Path) -> None:
    with HttpDouble("vllm", byte_level()) as double:
        double.others_tokens = math.inf
        result = client(
            "--url", double.url, "--tokenizer", tokenizer, "--data", data, "--output", output,
            "--server-metrics", f"{double.url}/metrics",
        )  # fmt: skip
        assert not double.measured
    assert result.returncode == 2
    assert "counts what cannot be: vllm:prompt_tokens_total is inf" in the_error(result)
