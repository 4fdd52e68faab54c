"""What is seen of a campaign while it is on: lines, bars, and `--metrics-port`."""

from __future__ import annotations

import io
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from client_process import SECONDS, ClientProcess, client, the_error
from compared_campaign import CELLS, FINISHED, ComparedCampaign, json_rows
from double import Double
from mmlu import write_benchmark
from mmlu_client.campaign.watch.display import BarDisplay, CellProgress, LineDisplay
from processes import program
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from run_files import summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

# What Prometheus sends along with every scrape.
SCRAPER = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
FIGURES = {
    "accuracy_ratio": "acc",
    "accuracy_low_ratio": "acc_low",
    "accuracy_high_ratio": "acc_high",
    "whole_tokens_per_second": "p_infer_whole",
    "core_tokens_per_second": "p_infer_core",
    "mfu_ratio": "mfu",
    "e2e_seconds": "e2e_time",
}
COORDINATES = ("model", "server", "workload", "prompt_format", "load", "repetition")


@dataclass(frozen=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


def scrape(address: str, headers: Mapping[str, str] = SCRAPER) -> list[Sample]:
    request = urllib.request.Request(address, headers=dict(headers))
    text = urllib.request.urlopen(request, timeout=SECONDS).read().decode()
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def by_cell(samples: list[Sample], name: str) -> dict[str, float]:
    return {each.labels["cell"]: each.value for each in samples if each.name == f"mmlu_campaign_cell_{name}"}


def states(samples: list[Sample]) -> dict[str, float]:
    return {each.labels["state"]: each.value for each in samples if each.name == "mmlu_campaign_cells"}


def attempts(samples: list[Sample]) -> float:
    (found,) = (each.value for each in samples if each.name == "mmlu_campaign_attempts_total")
    return found


@dataclass(frozen=True)
class HeldCampaign:
    """A campaign of two cells, the second of which has two of its four answers, until it is released."""

    running: ClientProcess
    address: str
    output: Path
    release: threading.Event


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldCampaign]:
    write_benchmark(tmp_path / "data", {"alpha": 4})
    output, file, release = tmp_path / "out", tmp_path / "held.yaml", threading.Event()

    def hold(number: int) -> None:
        if number == 6:
            release.wait(SECONDS)

    with Double(tokenizer_files(byte_level()), hold) as double:
        file.write_text(
            f"servers:\n  one: {{url: '{double.url}'}}\nworkloads:\n  all: {{data: data}}\n"
            "prompt-formats: [hendrycks]\nclient-flags: {bs: 1, concurrency: 1}\nrepetitions: 2\n"
        )
        running = ClientProcess(
            "campaign", file, "--output", output, "--metrics-port", "0", "--metrics-host", "127.0.0.2"
        )
        wait_for_records(output / "cells" / "one+all+hendrycks+r2", 2)
        (address,) = re.findall(r"metrics at (\S+)", running.said())
        yield HeldCampaign(running, address, output, release)
        release.set()


def test_a_line_is_said_when_a_cell_begins_and_ends(campaign: ComparedCampaign) -> None:
    lines = campaign.done.stderr.splitlines()
    rows = json_rows(campaign.folder)
    for name in CELLS:
        row = rows[name]
        assert f"mmlu-client: {name} begins on {row['where']}" in lines
        if name not in FINISHED:
            assert any(line.startswith(f"mmlu-client: {name} has failed: 1 of 22") for line in lines)
            continue
        started, ended = (datetime.fromisoformat(str(row[key])) for key in ("started", "ended"))
        seconds = (ended - started).total_seconds()
        told = f"acc {row['acc']:.3f} (made up), {row['p_infer_whole']:,.0f} tokens/s, {seconds:,.1f} s"
        (line,) = (line for line in lines if line.startswith(f"mmlu-client: {name} is finished, "))
        assert re.fullmatch(rf".* is finished, [1-4] of 5: {re.escape(told)}", line)


def test_a_long_cell_has_a_line_now_and_then() -> None:
    seconds, written = 0.0, io.StringIO()
    display = LineDisplay(Console(file=written), lambda: seconds)
    cell = CellProgress("a+r1", "r1", "running", where="here")
    display.changed(cell, "a+r1 begins on here")

    def after(more_seconds: float, answered: int, questions: int | None = 1000) -> list[str]:
        nonlocal seconds
        seconds += more_seconds
        cell.answered, cell.questions = answered, questions
        written.truncate(0)
        written.seek(0)
        display.advanced(cell)
        return written.getvalue().splitlines()

    assert after(100, 90, None) == []
    assert after(1, 100) == ["mmlu-client: a+r1: 100/1000 questions"]
    assert after(9, 300) == []
    assert after(1, 300) == ["mmlu-client: a+r1: 300/1000 questions"]
    assert after(59, 310) == []
    assert after(1, 310) == ["mmlu-client: a+r1: 310/1000 questions"]
    assert after(120, 310) == []
    assert after(0, 1000) == []


def test_a_cell_that_waits_for_resources_has_a_line_and_a_bar_that_say_it() -> None:
    written = io.StringIO()
    cell = CellProgress("a+r1", "r1", "waiting")
    LineDisplay(Console(file=written)).waits(cell)
    assert written.getvalue() == "mmlu-client: a+r1 waits for resources\n"
    terminal = io.StringIO()
    display = BarDisplay(Console(file=terminal, force_terminal=True, width=100))
    display.found(cell)
    display.waits(cell)
    cell.state, cell.where = "running", "Ray node 7"
    display.changed(cell, "a+r1 begins on Ray node 7")
    display.close()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    first, _, last = drawn.rpartition("cells ")
    assert re.search(r"r1 +\S+ .*waits for resources", first)
    assert "1 running" in last
    assert re.search(r"r1 +\S+ .*Ray node 7", last)
    assert "waits for resources" not in last


def test_metrics_of_a_campaign_that_is_on_and_their_end(held: HeldCampaign) -> None:
    assert held.address.startswith("http://127.0.0.2:")
    first, second = "one+all+hendrycks+r1", "one+all+hendrycks+r2"
    # The campaign counts a cell's records some times a second.
    while by_cell(seen := scrape(held.address), "answered") != {second: 2}:
        assert by_cell(seen, "answered").get(second, 0) <= 2
    seen = scrape(held.address)
    assert states(seen) == {"waiting": 0, "running": 1, "finished": 1, "failed": 0}
    assert attempts(seen) == 2
    assert by_cell(seen, "questions") == {second: 4}
    figures = summary(held.output / "cells" / first)
    for name, key in FIGURES.items():
        assert by_cell(seen, name) == {first: figures[key]}
    assert by_cell(seen, "joules_per_token") == {}
    (found,) = (each for each in seen if each.name == "mmlu_campaign_cell_accuracy_ratio")
    assert {each.labels["campaign"] for each in seen if each.name.startswith("mmlu_campaign")} == {"held"}
    assert [found.labels[each] for each in COORDINATES] == ["", "one", "all", "hendrycks", "", "r1"]
    # They stay until Prometheus has read the last ones twice.
    held.release.set()
    held.running.wait_for("for Prometheus to read the last figures")
    for _ in range(2):
        seen = scrape(held.address)
        assert states(seen)["finished"] == 2
        assert by_cell(seen, "questions") == by_cell(seen, "answered") == {}
        assert len(by_cell(seen, "mfu_ratio")) == 2
    done = held.running.finish()
    assert done.returncode == 0
    assert "written to" in done.stdout
    with pytest.raises(urllib.error.URLError):
        scrape(held.address)


def test_a_signal_ends_the_wait_but_the_campaign_was_done(held: HeldCampaign) -> None:
    scrape(held.address)
    held.release.set()
    held.running.wait_for("for Prometheus to read the last figures")
    held.running.signal(signal.SIGINT)
    assert held.running.finish().returncode == 0


@pytest.fixture
def finished(campaign: ComparedCampaign, tmp_path: Path) -> tuple[Path, Path]:
    """The file of a campaign all of whose cells are finished, though their servers are gone; its folder."""
    file = campaign.file.with_name("finished.yaml")
    file.write_text(campaign.file.read_text().replace("include:", "exclude: []\n#"))
    return file, Path(shutil.copytree(campaign.folder, tmp_path / "copy"))


def test_cells_that_were_finished_before_are_told(finished: tuple[Path, Path]) -> None:
    file, output = finished
    done = client("campaign", file, "--output", output, "--metrics-port", "0")
    assert done.returncode == 0, done.stderr
    # Nobody waits for a Prometheus that never came.
    assert "for Prometheus" not in done.stderr
    assert list(json_rows(output)) == list(FINISHED)
    assert "4 finished" in done.stdout


def test_a_port_that_is_taken_is_told(finished: tuple[Path, Path]) -> None:
    file, output = finished
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = client("campaign", file, "--output", output, "--metrics-port", port)
    assert done.returncode == 2
    assert f"--metrics-port {port}: cannot listen on 127.0.0.1" in the_error(done)


def test_on_a_terminal_there_are_bars(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "data", {"alpha": 4})
    ours, theirs = pty.openpty()
    with Double(tokenizer_files(byte_level()), pause=0.3) as double:
        file = tmp_path / "bars.yaml"
        file.write_text(
            f"servers:\n  one: {{url: '{double.url}'}}\nworkloads:\n  all: {{data: data}}\n"
            "client-flags: {bs: 1, concurrency: 1}\nrepetitions: 2\n"
        )
        process = subprocess.Popen(
            [program("mmlu-client"), "campaign", str(file), "--output", str(tmp_path / "out")],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
        )
        os.close(theirs)
        shown = b""
        while chunk := read(ours):
            shown += chunk
        assert process.wait(SECONDS) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"cells +\S+ 0/2 .*1 running", text)
    assert re.search(r"cells +\S+ 1/2 ", text)
    assert re.search(r"r1 +\S+ [1-3]/4 .*local", text)
    assert "mmlu-client: one+all+r2 is finished, 2 of 2: acc " in text


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""
