"""The time axis that a run's charts share."""

from __future__ import annotations

import json
import re
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from client_process import SECONDS, ClientProcess, client
from double import HOLD, Double
from mmlu import write_benchmark
from mmlu_client.pages.charts import charts
from mmlu_client.rundir.finished_run import read_run
from mmlu_client.text import significant
from run_files import summary, wait_for_records
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six questions of the reference and three of the engine, a kill, and the other three."""
    folder = tmp_path_factory.mktemp("resumed")
    data, output = write_benchmark(folder / "data", {"alpha": 6}), folder / "run"
    with Double(TOKENIZER, lambda number: HOLD if number == 9 else None, reference="one") as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, "--validate", "--concurrency", "1"
        )
        assert double.holds.wait(SECONDS)
        running.signal(signal.SIGKILL)
        running.join()
        assert client("--resume", output).returncode == 0
    return output


@pytest.mark.parametrize("rebooted", [False, True])
def test_devices_are_drawn_where_the_answers_of_their_session_are(
    resumed: Path, tmp_path: Path, rebooted: bool
) -> None:
    """The second start as if it had been hours later, or, by a clock that began anew, a second after that."""
    lines = {name: lines_of(resumed / name) for name in ("records.jsonl", "device.jsonl")}
    began = min(line["monotonic_ns"] for line in lines["device.jsonl"] if line["session"] == 1)
    later = 10**9 - began if rebooted else 5 * 3600 * 10**9
    (tmp_path / "manifest.json").write_bytes((resumed / "manifest.json").read_bytes())
    for name, each in lines.items():
        moved = [shifted(line, later) if line["session"] == 1 else line for line in each]
        (tmp_path / name).write_text("".join(f"{json.dumps(line)}\n" for line in moved))
    run = read_run(tmp_path)
    drawn = {chart.title: chart.figure for chart in charts(run)}
    line, _ = drawn["Memory over time"].data
    assert len(line.x) == len(run.readings) >= 5
    assert all(earlier <= following for earlier, following in pairwise(line.x))
    whole = summary(resumed)["whole_seconds"]
    for seconds, reading in zip(line.x, run.readings, strict=True):
        assert seconds <= 0 if reading.phase == "val" else 0 <= seconds <= whole + 1e-6


def test_a_new_start_of_the_client_is_marked(resumed: Path) -> None:
    """Where the answers of the engine's first start end."""
    run = read_run(resumed)
    drawn = {chart.title: chart.figure for chart in charts(run)}
    times = [line["client_ns"] for line in lines_of(resumed / "records.jsonl") if line["phase"] == "infer"]
    first = (times[2]["received"] - times[0]["due"]) / 1e9
    for title in ("Latency over time", "Throughput over time", "MFU over time", "Memory over time"):
        (mark,) = (trace for trace in drawn[title].data if trace.name == "the client was started again")
        assert list(mark.x) == [pytest.approx(first), pytest.approx(first), None]
        assert max(y for y in mark.y if y) > 0


def test_a_server_that_was_away_is_marked(tmp_path: Path) -> None:
    """From its loss, after the third answer, until it was back, before the fourth."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 6}), tmp_path / "run"
    with Double(TOKENIZER, lambda number: HOLD if number == 3 else None) as double:
        running = ClientProcess("--url", double.url, "--data", data, "--output", output, "--concurrency", "1")
        assert double.holds.wait(SECONDS)
        wait_for_records(output, 3)
    with Double(TOKENIZER, port=double.port):
        assert running.finish().returncode == 0
    drawn = {chart.title: chart.figure for chart in charts(read_run(output))}
    times = [line["client_ns"] for line in lines_of(output / "records.jsonl")]
    third, fourth = ((times[number]["received"] - times[0]["due"]) / 1e9 for number in (2, 3))
    for title in ("Latency over time", "Throughput over time", "MFU over time"):
        (mark,) = (trace for trace in drawn[title].data if trace.name == "a server was away")
        lost, back = mark.x[0], mark.x[2]
        assert third < lost < back < fourth
    assert summary(output)["outage_seconds"] == pytest.approx(back - lost)


def test_numbers_are_written_out(resumed: Path, tmp_path: Path) -> None:
    """Requests that took an hour, and a stage of some nanoseconds."""
    hour = 3600 * 10**9
    lines = lines_of(resumed / "records.jsonl")
    slow = [
        {**line, "client_ns": {**line["client_ns"], "due": line["client_ns"]["due"] - hour}} for line in lines
    ]
    (tmp_path / "manifest.json").write_bytes((resumed / "manifest.json").read_bytes())
    (tmp_path / "records.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in slow))
    drawn = {chart.title: chart for chart in charts(read_run(tmp_path))}
    (stages,) = drawn["Where a request's time goes"].figure.data
    written = dict(zip(stages.y, stages.text, strict=True))
    assert re.fullmatch(r"3,600,\d{3} ms", written["client queue"])
    assert written["assemble"] == "< 0.001 ms"
    (median,) = (key for key in drawn["Latency of requests"].legend if key.name.startswith("p50"))
    assert re.fullmatch(r"p50 3,600,\d{3} ms", median.name)
    for chart in drawn.values():
        axes = (chart.figure.layout.xaxis, chart.figure.layout.yaxis)
        assert all(axis.exponentformat == "none" and axis.separatethousands for axis in axes)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (7.63e-06, 2, "0.0000076"), (0.0, 3, "0"), (24.04, 3, "24"), (2772.6, 3, "2,773"),
        (-0.105, 2, "-0.1"), (1.5e6, 3, "1,500,000"), (0.19457, 4, "0.1946"),
        (312.0, 4, "312"), (None, 3, "/"),
    ],
)  # fmt: skip
def test_significant_digits(value: float | None, digits: int, text: str) -> None:
    assert significant(value, digits) == text


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shifted(line: dict[str, Any], later: int) -> dict[str, Any]:
    if "client_ns" in line:
        return {**line, "client_ns": {name: value + later for name, value in line["client_ns"].items()}}
    return {**line, "monotonic_ns": line["monotonic_ns"] + later}
