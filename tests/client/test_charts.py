"""The time axis that a run's charts share."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from client_process import SECONDS, ClientProcess, client
from double import HOLD, Double
from mmlu import write_benchmark
from mmlu_client.charts import charts
from mmlu_client.finished_run import read_run
from run_files import summary
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
    (line,) = drawn["Memory over time"].data
    assert len(line.x) == len(run.readings) >= 5
    assert all(earlier <= following for earlier, following in pairwise(line.x))
    whole = summary(resumed)["whole_seconds"]
    for seconds, reading in zip(line.x, run.readings, strict=True):
        assert seconds <= 0 if reading.phase == "val" else 0 <= seconds <= whole + 1e-6


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def shifted(line: dict[str, Any], later: int) -> dict[str, Any]:
    if "client_ns" in line:
        return {**line, "client_ns": {name: value + later for name, value in line["client_ns"].items()}}
    return {**line, "monotonic_ns": line["monotonic_ns"] + later}
