"""One run over several servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from double import HOLD, PEAK, Double, Verdict, queue_full
from mmlu import write_benchmark
from mmlu_client.errors import InputError, NotWrittenError
from mmlu_client.service.access import Access
from mmlu_client.service.address import parse_addresses
from mmlu_client.service.connecting import Connecting
from mmlu_client.service.fleet import Fleet
from mmlu_client.service.remote_server import RemoteServer
from run_files import manifest, page, records, summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

from tools.free_port import free_port

TOKENIZER = tokenizer_files(byte_level())
# Tokens: too few for the prompts of `data` with all their shots.
LIMIT = 200


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 30})


def test_requests_are_spread_and_the_report_says_how(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as one, Double(TOKENIZER) as two:
        result = client("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert len(one.asked) + len(two.asked) == 30
    assert min(len(one.asked), len(two.asked)) >= 5
    share = Counter(record["server"] for record in records(output))
    assert share == {one.url: len(one.asked), two.url: len(two.asked)}
    for double in (one, two):
        assert f"server {double.url}: {len(double.asked)} requests" in page(output)


def test_a_server_that_dies_is_left_out(data: Path, output: Path) -> None:
    """The one holds its third request for good and dies; the other answers it too."""
    with Double(TOKENIZER) as two:
        with Double(TOKENIZER, lambda number: HOLD if number >= 2 else None) as one:
            running = ClientProcess(
                "--url", f"{one.url},{two.url}", "--data", data, "--output", output, "--server-timeout", "1"
            )
            assert one.holds.wait(SECONDS)
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert sorted(record["index"] for record in records(output)) == list(range(30))
    assert f"the stream to {one.url} broke" in result.stderr
    assert summary(output)["interruptions"] == 1


def test_a_server_that_breaks_every_stream_does_not_end_the_run(data: Path, output: Path) -> None:
    with Double(TOKENIZER, lambda _: grpc.StatusCode.INTERNAL) as one, Double(TOKENIZER) as two:
        result = client("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert summary(output)["answered"] == 30
    assert Counter(record["server"] for record in records(output)) == {two.url: 30}


@pytest.mark.parametrize(("other", "devices"), [("GPU-1", 1), ("GPU-2", 2), (None, 2)])
def test_a_shared_device_counts_once(data: Path, output: Path, other: str | None, devices: int) -> None:
    """Each server's process holds memory of its own; the device's memory, peak and energy are one."""
    with (
        Double(TOKENIZER, device_id="GPU-1", joules_a_reading=10.0) as one,
        Double(TOKENIZER, device_id=other, joules_a_reading=10.0) as two,
    ):
        client("--url", f"{one.url},{two.url}", "--data", data, "--output", output, "--concurrency", "2")
    figures = summary(output)
    assert (figures["mem_used_gib"], figures["mem_total_gib"]) == (2 * 2.0, devices * 40.0)
    possible = figures["whole_seconds"] * devices * PEAK
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / possible)
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    counters: dict[str, list[float]] = {}
    for reading in readings:
        device = reading["device"]
        counters.setdefault(device["id"] or "none", []).append(device["energy_joules"])
    assert len(counters) == devices
    joules = sum(values[-1] - values[0] for values in counters.values())
    assert figures["joules_per_question"] == pytest.approx(joules / figures["answered"])


def test_parts_of_a_device_have_a_peak_each_and_one_memory(data: Path, output: Path) -> None:
    with (
        Double(TOKENIZER, device_id="machine", device_part="0") as one,
        Double(TOKENIZER, device_id="machine", device_part="1") as two,
    ):
        client("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
    figures = summary(output)
    assert figures["mem_total_gib"] == 40.0
    possible = figures["whole_seconds"] * 2 * PEAK
    assert figures["mfu_whole"] == pytest.approx(figures["flops"] / possible)


def test_a_server_that_is_not_there_is_left_out(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client(
            "--url", f"localhost:9,{double.url}", "--data", data, "--output", output, "--server-timeout", "1"
        )
    assert result.returncode == 0, result.stderr
    assert "left out: no answer from grpc://localhost:9 within 1 s" in result.stderr


def test_a_server_that_comes_later_joins(data: Path, output: Path) -> None:
    """The one answers two requests and no more until the other is there to be asked."""
    port = free_port()
    two = Double(TOKENIZER, port=port)

    def decide(number: int) -> Verdict:
        return None if number < 2 or two.asked else queue_full(0.05)

    with Double(TOKENIZER, decide) as one:
        flags = ("--data", data, "--output", output, "--concurrency", "4", "--server-timeout", "1")
        running = ClientProcess("--url", f"{one.url},{two.url}", *flags)
        running.wait_for("left out: no answer from")
        with two:
            wait_for_records(output, 20)
            result = running.finish()
    assert result.returncode == 0, result.stderr
    assert f"{two.url} joins the run" in result.stderr
    share = Counter(record["server"] for record in records(output))
    assert share[one.url] >= 2
    assert share[two.url] >= 5
    assert share.total() == 30
    assert [server["name"] for server in manifest(output)["servers"]] == [one.url, two.url]
    assert f"server {two.url}: {share[two.url]} requests" in page(output)
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    assert {reading["server"] for reading in readings} == {one.url, two.url}


def test_a_server_that_cannot_be_written_down_does_not_join_in_silence() -> None:
    """The disk is at fault, not the server: the run is told, instead of going on without it."""
    port = free_port()
    joined: list[RemoteServer] = []

    async def watch(one: Double) -> None:
        tried = asyncio.Event()

        def admit(server: RemoteServer, first: RemoteServer) -> None:
            if server.name != first.name:
                tried.set()
                raise NotWrittenError(Path("manifest.json"), "No space left on device")

        connecting = Connecting("auto", Access(), lambda _: None)
        fleet = Fleet(parse_addresses(f"{one.url},localhost:{port}"), connecting, lambda _: None, admit)
        await fleet.connect(1.0)
        try:
            async with fleet.watched(joined.append):
                with Double(TOKENIZER, port=port):
                    await asyncio.wait_for(tried.wait(), SECONDS)
        finally:
            await fleet.close()

    with Double(TOKENIZER) as one, pytest.raises(NotWrittenError, match="No space left on device"):
        asyncio.run(watch(one))
    assert not joined


def said_of_one_that_does_not_join(data: Path, output: Path, other: Double) -> str:
    """What the client says on stderr of a server that comes in the middle of a run and cannot be used."""
    release = threading.Event()

    def decide(number: int) -> Verdict:
        return None if number < 2 or release.is_set() else queue_full(0.05)

    with Double(TOKENIZER, decide) as one:
        flags = ("--data", data, "--output", output, "--server-timeout", "1")
        running = ClientProcess("--url", f"{one.url},{other.url}", *flags)
        running.wait_for("left out: no answer from")
        with other:
            running.wait_for(f"grpc://{other.url} does not join the run")
            release.set()
            result = running.finish()
    assert result.returncode == 0, result.stderr
    assert Counter(record["server"] for record in records(output)) == {one.url: 30}
    assert not other.asked
    return result.stderr


def test_a_server_of_another_engine_does_not_join(data: Path, output: Path) -> None:
    other = Double(TOKENIZER, port=free_port(), fingerprint="engine-2")
    said = said_of_one_that_does_not_join(data, output, other)
    assert "do not hold the same: engine double (engine-1) and double (engine-2)" in said


def test_servers_of_different_engines_are_refused(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as one, Double(TOKENIZER, fingerprint="engine-2") as two:
        result = client("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
    assert result.returncode == 1
    assert "do not hold the same: engine double (engine-1) and double (engine-2)" in the_error(result)
    assert not one.asked


@pytest.mark.parametrize("smallest_first", [True, False])
def test_prompts_fit_the_smallest_limit(data: Path, output: Path, smallest_first: bool) -> None:
    """Of servers with different limits each answers the same prompt."""
    with Double(TOKENIZER, max_prompt_tokens=LIMIT) as small, Double(TOKENIZER) as large:
        order = (small, large) if smallest_first else (large, small)
        urls = ",".join(double.url for double in order)
        result = client("--url", urls, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    assert min(len(small.asked), len(large.asked)) >= 5
    lengths = [len(request.prompts[0].token_ids.ids) for double in order for request in double.asked]
    assert LIMIT / 2 < max(lengths) <= LIMIT
    assert manifest(output)["limits"]["max_prompt_tokens"] == LIMIT
    kept = [record["shots"] for record in records(output) if record["truncated"]]
    assert (summary(output)["truncated"], summary(output)["mean_shots"]) == (30, sum(kept) / 30)
    assert 0 < sum(kept) < 30 * 5
    assert f"truncated: 30 of 30 prompts were longer than the {LIMIT} tokens" in page(output)


def test_a_server_that_takes_less_than_the_run_asks_does_not_join(data: Path, output: Path) -> None:
    other = Double(TOKENIZER, port=free_port(), max_prompt_tokens=LIMIT)
    said = said_of_one_that_does_not_join(data, output, other)
    assert f"{other.url} takes prompts of {LIMIT} tokens, this run asks for up to 2048" in said


def test_references_that_differ_are_refused_where_they_are_asked(data: Path, output: Path) -> None:
    with Double(TOKENIZER, reference="one") as one, Double(TOKENIZER, reference="another") as two:
        both = ("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
        refused = client(*both, "--validate")
        taken = client(*both)
    assert refused.returncode == 1
    assert f"--validate: the references of {one.url} and {two.url} differ" in the_error(refused)
    assert taken.returncode == 0, taken.stderr


def test_the_reference_is_loaded_too(data: Path, tmp_path: Path) -> None:
    """Of three seconds' loading and four of building, and five for the reference, where that is asked."""
    with Double(TOKENIZER, reference="one") as double:
        shared = ("--url", double.url, "--data", data)
        client(*shared, "--output", tmp_path / "plain")
        client(*shared, "--output", tmp_path / "validated", "--validate")
    assert summary(tmp_path / "plain")["server_load_seconds"] == 3.0
    assert summary(tmp_path / "validated")["server_load_seconds"] == 8.0


def test_every_address_of_a_name(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client(
            "--url", f"dns:///localhost:{double.port}", "--data", data, "--output", output,
            "--server-timeout", "1",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    names = {record["server"] for record in records(output)}
    assert names <= {f"127.0.0.1:{double.port}", f"[::1]:{double.port}"}
    assert names


def test_a_server_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="grpc://a:1 is named twice"):
        parse_addresses("a:1,grpc://a:1")
