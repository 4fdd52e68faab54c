"""`--metrics-port`: what Prometheus reads while a run is on."""

from __future__ import annotations

import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client, command, the_error
from double import CORE_NS, FLOPS_A_TOKEN, HOLD, PEAK, Decide, Double, Verdict, queue_full
from histograms import histogram_quantile
from mmlu import write_benchmark
from mmlu_client.watch.metrics import Metrics
from mmlu_client.watch.metrics_server import MetricsServer
from mmlu_client.watch.scrape_server import MOST_CONNECTIONS
from prometheus_client.parser import text_string_to_metric_families
from run_files import records, summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


# What Prometheus sends along with every scrape.
SCRAPER = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}


def scrape(address: str, headers: Mapping[str, str] = SCRAPER) -> dict[str, float]:
    request = urllib.request.Request(address, headers=dict(headers))
    text = urllib.request.urlopen(request, timeout=SECONDS).read().decode()
    return {
        ",".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def hold_at(held: int) -> Decide:
    return lambda number: HOLD if number == held else None


def test_idle_connections_take_a_bounded_number_of_threads_and_end(capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    server = MetricsServer(Metrics().registry, "127.0.0.1", 0)
    with ExitStack() as open_ones:
        idle = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), SECONDS))
            for _ in range(3 * MOST_CONNECTIONS)
        ]
        # Those beyond the limit end at once, and those within it when they have said nothing for a while.
        ended = [connection.recv(1) for connection in reversed(idle)]
        assert threading.active_count() <= before + 1 + MOST_CONNECTIONS
    assert not any(ended)
    assert "mmlu_client_flops_total" in scrape(f"http://127.0.0.1:{server.port}/metrics")
    server.close()
    assert capfd.readouterr() == ("", "")


def test_a_run_in_its_middle(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 4, "beta": 4}), tmp_path / "run"
    with Double(TOKENIZER, lambda number: HOLD if number == 5 else None) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--concurrency", "1",
            "--metrics-port", "0", "--metrics-host", "127.0.0.2",
        )  # fmt: skip
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 5)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        assert address.startswith("http://127.0.0.2:")
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    written = records(output)
    tokens = sum(record["tokens"]["logical"] for record in written)
    right = sum(record["correct"] for record in written if record["subject"] == "alpha")
    assert seen["mmlu_client_questions_total,correct,alpha"] == right
    assert seen["mmlu_client_questions_total,wrong,alpha"] == 4 - right
    assert seen["mmlu_client_questions_total,failed,beta"] == 0
    assert (seen["mmlu_client_questions_planned,alpha"], seen["mmlu_client_questions_planned,beta"]) == (4, 4)
    assert seen["mmlu_client_tokens_total,logical"] == seen["mmlu_client_tokens_total,computed"] == tokens
    assert seen["mmlu_client_flops_total"] == FLOPS_A_TOKEN * tokens
    assert seen["mmlu_client_core_seconds_total"] == pytest.approx(5 * CORE_NS / 1e9)
    assert seen["mmlu_client_possible_flops_total"] == pytest.approx(5 * CORE_NS / 1e9 * PEAK)
    assert seen["mmlu_client_requests_in_flight"] == 1
    times = [record["client_ns"] for record in written]
    assert seen["mmlu_client_request_seconds_count"] == 5
    assert seen["mmlu_client_request_seconds_sum"] == pytest.approx(
        sum(each["received"] - each["due"] for each in times) / 1e9
    )
    assert seen["mmlu_client_run_seconds"] == pytest.approx(
        (times[-1]["received"] - times[0]["due"]) / 1e9, rel=0.01
    )
    (info,) = (name.split(",") for name in seen if name.startswith("mmlu_client_info,"))
    assert {"double", "false"} <= set(info)


def test_its_median_is_the_reports(tmp_path: Path) -> None:
    """Each request is refused once and waits for 5 ms or more before it is asked again."""

    def decide(number: int) -> Verdict:
        return HOLD if number == 120 else None if number % 2 else queue_full(0.005)

    data, output = write_benchmark(tmp_path / "data", {"alpha": 61}), tmp_path / "run"
    with Double(TOKENIZER, decide) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--concurrency", "1",
            "--metrics-port", "0",
        )  # fmt: skip
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 60)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    name = "mmlu_client_request_seconds_bucket,"
    buckets = {float(key.removeprefix(name)): seen[key] for key in seen if key.startswith(name)}
    median = summary(output)["latency_p50_seconds"]
    assert median > 0.005
    assert histogram_quantile(0.5, buckets) == pytest.approx(median, rel=0.06)


def test_a_resumed_run_counts_all_its_starts(tmp_path: Path) -> None:
    """Two servers; gone on with, one of them is gone and the other has another peak."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    with Double(TOKENIZER) as one, Double(TOKENIZER, lambda number: HOLD if number == 2 else None) as two:
        running = ClientProcess("--url", f"{one.url},{two.url}", "--data", data, "--output", output)
        assert two.holds.wait(SECONDS)
        running.signal(signal.SIGKILL)
        running.join()
        earlier = len(records(output))
    with Double(TOKENIZER, hold_at(7 - earlier), port=one.port, peak=PEAK / 4) as three:
        running = ClientProcess("--resume", output, "--url", three.url, "--metrics-port", "0")
        assert three.holds.wait(SECONDS)
        wait_for_records(output, 7)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    figures = summary(output)
    assert seen["mmlu_client_questions_planned,alpha"] == 8
    assert seen["mmlu_client_tokens_total,logical"] == figures["logical_tokens"]
    assert seen["mmlu_client_request_seconds_count"] == figures["answered"] == 7
    possible = CORE_NS / 1e9 * (earlier * PEAK + (7 - earlier) * PEAK / 4)
    assert seen["mmlu_client_possible_flops_total"] == pytest.approx(possible)
    assert seen["mmlu_client_flops_total"] / possible == pytest.approx(figures["mfu"])
    assert seen["mmlu_client_run_seconds"] == pytest.approx(figures["whole_seconds"], rel=0.01)


def test_a_server_that_comes_back_with_a_larger_peak_counts_at_it(tmp_path: Path) -> None:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    with Double(TOKENIZER, hold_at(4)) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--metrics-port", "0"
        )
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 4)
    with Double(TOKENIZER, hold_at(3), port=double.port, peak=PEAK * 4) as double:
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 7)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        seen = scrape(address)
        running.signal(signal.SIGTERM)
        running.join()
    assert seen["mmlu_client_possible_flops_total"] == pytest.approx(7 * CORE_NS / 1e9 * 4 * PEAK)
    share = seen["mmlu_client_flops_total"] / seen["mmlu_client_possible_flops_total"]
    assert share == pytest.approx(summary(output)["mfu"])


@dataclass(frozen=True)
class HeldRun:
    """A run of eight questions whose last one is not answered before `release` is set."""

    running: ClientProcess
    address: str
    output: Path
    release: threading.Event


@pytest.fixture
def held_run(tmp_path: Path) -> Iterator[HeldRun]:
    data, output = write_benchmark(tmp_path / "data", {"alpha": 8}), tmp_path / "run"
    release = threading.Event()

    def decide(number: int) -> Verdict:
        return queue_full(0.05) if number >= 7 and not release.is_set() else None

    with Double(TOKENIZER, decide) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--metrics-port", "0"
        )  # fmt: skip
        wait_for_records(output, 7)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        yield HeldRun(running, address, output, release)


def test_the_last_figures_stay_until_prometheus_has_read_them_twice(held_run: HeldRun) -> None:
    scrape(held_run.address)
    held_run.release.set()
    held_run.running.wait_for("for Prometheus to read the last figures")
    figures = summary(held_run.output)
    for _ in range(2):
        seen = scrape(held_run.address)
        right, wrong = (seen[f"mmlu_client_questions_total,{kind},alpha"] for kind in ("correct", "wrong"))
        assert right + wrong == 8
        assert right / 8 == figures["acc"]
        assert seen["mmlu_client_tokens_total,logical"] == figures["logical_tokens"]
    assert held_run.running.finish().returncode == 0
    with pytest.raises(urllib.error.URLError):
        scrape(held_run.address)


def test_a_signal_ends_the_wait_for_prometheus_but_the_run_was_done(held_run: HeldRun) -> None:
    scrape(held_run.address)
    held_run.release.set()
    held_run.running.wait_for("for Prometheus to read the last figures")
    held_run.running.signal(signal.SIGINT)
    result = held_run.running.finish()
    assert result.returncode == 0
    assert "written to" in result.stdout


FORMATS = {
    "application/openmetrics-text; version=x": "text/plain",
    "application/openmetrics-text; version=1.0.0.0.0": "text/plain",
    "application/openmetrics-text;version=²": "text/plain",
    "text/plain;version=" + "9" * 5000: "text/plain",
    "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1": "application/openmetrics-text",
    "application/openmetrics-text; version=y,application/openmetrics-text;version=1.0.0": (
        "application/openmetrics-text"
    ),
}


def test_whatever_version_of_a_format_is_asked_for_is_answered(held_run: HeldRun) -> None:
    for accept, form in FORMATS.items():
        request = urllib.request.Request(held_run.address, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.headers["Content-Type"].startswith(form), accept
            assert b"mmlu_client_flops_total" in answer.read()
    held_run.release.set()
    result = held_run.running.finish()
    assert result.returncode == 0
    assert all(line.startswith("mmlu-client: ") for line in result.stderr.splitlines()), result.stderr


def test_nobody_waits_for_a_prometheus_that_never_came(held_run: HeldRun) -> None:
    scrape(held_run.address, headers={})
    held_run.release.set()
    result = held_run.running.finish()
    assert result.returncode == 0
    assert "Prometheus" not in result.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--output", tmp_path / "run", "--metrics-port", str(double.port))
    assert result.returncode == 2
    assert f"--metrics-port {double.port}: cannot listen on 127.0.0.1" in the_error(result)


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_a_folder_of_another_programs_processes_is_left_alone(tmp_path: Path, name: str) -> None:
    data, folder = write_benchmark(tmp_path / "data", {"alpha": 1}), tmp_path / "metrics"
    folder.mkdir()
    with Double(TOKENIZER) as double:
        result = command(
            "--url", double.url, "--data", data, "--metrics-port", "0", "--output", tmp_path / "run",
            environment={name: str(folder)},
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not list(folder.iterdir())
