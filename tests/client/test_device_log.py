"""device.jsonl: a disk that is full for a moment, and lines that nobody can read, cost no run."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest
from client_process import ClientProcess, client
from double import Double, Verdict, queue_full
from mmlu import write_benchmark
from run_files import summary
from tokenizer_kinds import byte_level, tokenizer_files
from waiting import wait_until

TOKENIZER = tokenizer_files(byte_level())
FULL_DISK = 60_000
# Of that many devices one reading is more than the disk has room for; everything else of a run is less.
DEVICES = 300


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 6})


def wait_for_whole_line(path: Path) -> None:
    wait_until(lambda: path.exists() and path.read_bytes().endswith(b"\n"), f"never a line in {path.name}")


def test_a_disk_that_was_full_for_a_moment_costs_readings_alone(data: Path, output: Path) -> None:
    has_room = threading.Event()

    def decide(_: int) -> Verdict:
        return None if has_room.is_set() else queue_full(0.05)

    with Double(TOKENIZER, decide, devices=DEVICES) as double:
        running = ClientProcess(
            "--url", double.url, "--data", data, "--output", output, file_size=FULL_DISK
        )  # fmt: skip
        running.wait_for("readings of devices are lost: cannot write")
        running.allow_file_size(2**30)
        wait_for_whole_line(output / "device.jsonl")
        has_room.set()
        result = running.finish()
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("readings of devices are lost") == 1
    assert summary(output)["answered"] == 6
    readings = [json.loads(line) for line in (output / "device.jsonl").read_text().splitlines()]
    assert len(readings) % DEVICES == 0
    assert f"memory and energy are incomplete: {DEVICES} readings" in result.stdout
    assert f"memory and energy are incomplete: {DEVICES} readings" in client("report", output).stdout


def test_lines_that_cannot_be_read_are_left_out_and_counted(data: Path, output: Path) -> None:
    with Double(TOKENIZER, joules_a_reading=10.0) as double:
        calm = client("--url", double.url, "--data", data, "--output", output)
        before = summary(output)
        lines = (output / "device.jsonl").read_bytes().splitlines(keepends=True)
        reading = json.loads(lines[0])
        device = reading["device"]
        wrong = [
            {**reading, "session": []},
            {**reading, "server": {}},
            {**reading, "device": {**device, "energy_joules": "x"}},
            {**reading, "device": {**device, "memory_total": "x"}},
            {**reading, "device": {**device, "memory_peak": -1}},
            {**reading, "device": {**device, "energy_joules": math.nan}},
        ]
        deep = b"[" * 200_000 + b"]" * 200_000 + b"\n"
        torn = [lines[0], lines[0][:20] + lines[0], b"\0\xff\n", deep, *lines[1:]]
        none = [json.dumps(each).encode() + b"\n" for each in wrong]
        (output / "device.jsonl").write_bytes(b"".join([*torn, *none]))
        (output / "counters.jsonl").write_bytes(b'{"phase":"infer"}\n' + deep)
        results = client("report", output), client("--resume", output)
    assert "incomplete" not in calm.stdout
    for result in results:
        assert result.returncode == 0, result.stderr
        assert f"memory and energy are incomplete: {3 + len(wrong)} readings" in result.stdout
    after = summary(output)
    for figure in ("mem_used_gib", "joules_per_token", "acc"):
        assert after[figure] == before[figure]
