"""Servers and connections that say nothing, or no without end: the client asks again, and comes to an end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from double import SWALLOW, Double, Verdict, queue_full
from mmlu import write_benchmark
from run_files import page, records, summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


class ForgetfulRouter:
    """Passes connections on to a port, until it forgets those that it has: they stay open, and are mute.

    New ones it passes on as before. Use as a context manager; `url` is where it listens.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._forgotten = threading.Event()
        self._open: list[socket.socket] = []
        self.connections = 0
        self.url = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def forget(self) -> None:
        """Let nothing through on the connections that there are."""
        forgotten, self._forgotten = self._forgotten, threading.Event()
        forgotten.set()

    def __enter__(self) -> ForgetfulRouter:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listening, *self._open):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self.connections += 1
                self._open += [caller, server]
                for source, target in ((caller, server), (server, caller)):
                    threading.Thread(
                        target=_pass_on, args=(source, target, self._forgotten), daemon=True
                    ).start()


def _pass_on(source: socket.socket, target: socket.socket, forgotten: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            if not forgotten.is_set():
                target.sendall(piece)
        if not forgotten.is_set():
            target.shutdown(socket.SHUT_WR)


def test_a_connection_that_goes_mute_is_replaced_while_new_ones_work(data: Path, output: Path) -> None:
    """The server holds the fifth request until the router has forgotten the connection."""
    let_go = threading.Event()

    def decide(number: int) -> Verdict:
        if number == 4:
            router.forget()
            let_go.set()
        return None

    with Double(TOKENIZER, decide) as double, ForgetfulRouter(double.port) as router:
        result = client(
            "--url", router.url, "--data", data, "--output", output, "--concurrency", "1",
            "--request-timeout", "0.5", "--server-timeout", "30",
        )  # fmt: skip
    assert let_go.is_set()
    assert result.returncode == 0, result.stderr
    assert router.connections >= 2
    assert (
        f"the stream to {router.url} broke (no answer in 0.5 s; --request-timeout sets how long); "
        "asking its 1 open requests again" in result.stderr
    )
    assert len(records(output)) == 11
    figures = summary(output)
    assert (figures["answered"], figures["interruptions"], figures["timeouts"]) == (11, 1, 1)
    assert "time-outs: 1 answers took too long and were asked for again" in page(output)


def test_an_answer_that_was_swallowed_is_asked_for_elsewhere(tmp_path: Path, output: Path) -> None:
    """The one swallows its third request and answers the others, so that its stream goes on."""
    data = write_benchmark(tmp_path / "data", {"alpha": 40})
    swallowed: list[tuple[int, ...]] = []

    def swallow_third(number: int) -> Verdict:
        return SWALLOW if number == 2 else None

    with Double(TOKENIZER, swallow_third, pause=0.02) as one, Double(TOKENIZER, pause=0.02) as two:
        result = client(
            "--url", f"{one.url},{two.url}", "--data", data, "--output", output, "--request-timeout", "0.3"
        )  # fmt: skip
        swallowed.append(tuple(one.asked[2].prompts[0].token_ids.ids))
        by_two = [tuple(request.prompts[0].token_ids.ids) for request in two.asked]
    assert result.returncode == 0, result.stderr
    assert swallowed[0] in by_two
    written = records(output)
    assert sorted(record["index"] for record in written) == list(range(40))
    assert len({record["request"]["id"] for record in written}) == 40
    assert summary(output)["timeouts"] >= 1
    assert all(record["client_ns"]["received"] > record["client_ns"]["sent"] for record in written)


def test_an_answer_that_comes_late_counts_once(tmp_path: Path, output: Path) -> None:
    """One server alone: asked again, it answers the second asking, and then the first one too."""
    data = write_benchmark(tmp_path / "data", {"alpha": 30})
    with Double(TOKENIZER, {2: SWALLOW}.get, pause=0.05, late=True) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--request-timeout", "0.3",
            "--concurrency", "4",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert sorted(record["index"] for record in records(output)) == list(range(30))
    ids = Counter(request.id.partition("~")[0] for request in double.asked)
    assert max(ids.values()) == 2


def test_a_request_that_is_swallowed_each_time_is_a_failed_question(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 40})
    poison: list[bytes] = []

    class Choosy(Double):
        """It never answers the prompt that came third."""

        def verdict(self, number: int) -> Verdict:
            prompt = self.asked[number].prompts[0].SerializeToString()
            if number == 2:
                poison.append(prompt)
            return SWALLOW if prompt in poison else None

    with Choosy(TOKENIZER, pause=0.05) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--request-timeout", "0.3")
    assert result.returncode == 1
    assert (
        "1 of 40 questions failed, the first alpha 2: DEADLINE_EXCEEDED: no answer in 0.3 s, asked 3 times"
        in (the_error(result))
    )
    assert summary(output)["answered"] == 39
    # On a busy machine others may be late once, too.
    assert summary(output)["timeouts"] >= 3


def test_a_server_that_answers_nothing_ends_the_run_with_what_there_is(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda number: SWALLOW if number >= 4 else None) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--request-timeout", "0.3",
            "--concurrency", "1",
        )  # fmt: skip
    assert result.returncode == 1
    assert the_error(result) == (
        "the server broke 3 streams in a row without an answer: no answer in 0.3 s; --request-timeout sets "
        f"how long; --resume {output} goes on with it"
    )
    assert len(records(output)) == 4
    with Double(TOKENIZER) as again:
        result = client("--resume", output, "--url", again.url)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11


@pytest.mark.parametrize("retry_seconds", [0.0, 0.05, 1e9, None])
def test_a_queue_that_stays_full_ends_the_run(data: Path, output: Path, retry_seconds: float | None) -> None:
    full = queue_full(retry_seconds)
    with Double(TOKENIZER, lambda number: full if number >= 4 else None) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--request-timeout", "1")
        asked = len(double.asked)
    assert result.returncode == 1
    assert the_error(result) == (
        f"{double.url} refused requests and answered none for 1 s, because its queue is full: ask it when it "
        f"has less to do, or give a longer --request-timeout; --resume {output} goes on with it"
    )
    assert asked < 1000
    assert len(records(output)) == 4
    assert summary(output)["refusals"] >= 1
    assert "full queues: " in page(output)


def test_a_server_whose_queue_stays_full_is_left_out(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda _: queue_full(1e9)) as one, Double(TOKENIZER) as two:
        result = client(
            "--url", f"{one.url},{two.url}", "--data", data, "--output", output, "--request-timeout", "1"
        )
    assert result.returncode == 0, result.stderr
    assert f"{one.url} is left out from now on: {one.url} refused requests" in result.stderr
    assert Counter(record["server"] for record in records(output)) == {two.url: 11}


def test_a_server_lost_before_its_tokenizer_is_waited_for(data: Path, output: Path) -> None:
    """It goes away when it is asked for its tokenizer, and another takes its place."""
    with Double(TOKENIZER, loses_tokenizer=True) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output)
        assert double.holds.wait(SECONDS)
    with Double(TOKENIZER, port=double.port):
        running.wait_for("for the tokenizer (")
        wait_for_records(output, 11)
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 11


def test_a_server_lost_for_good_before_its_tokenizer_ends_the_start_in_time(data: Path, output: Path) -> None:
    with Double(TOKENIZER, loses_tokenizer=True) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--server-timeout", "2"
        )
        assert double.holds.wait(SECONDS)
    result = running.finish()
    assert result.returncode == 1
    assert "no server gives its tokenizer within 2 s" in the_error(result)


def test_another_server_gives_the_tokenizer(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as two:
        with Double(TOKENIZER, loses_tokenizer=True) as one:
            running = ClientProcess(
                "--url", f"{one.url},{two.url}", "--data", data, "--output", output, "--server-timeout", "20"
            )
            assert one.holds.wait(SECONDS)
        wait_for_records(output, 11)
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert Counter(record["server"] for record in records(output)) == {two.url: 11}
