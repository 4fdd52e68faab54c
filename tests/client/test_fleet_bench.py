"""The simulated fleet of bench/fleet.py: each server is asked, and all are compared with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("on", [["--device-ms", "2"], []], ids=["devices", "cores"])
def test_a_fleet_of_two(on: list[str]) -> None:
    command = [sys.executable, "-m", "bench.fleet", "--servers", "1,2", "--rounds", "1", "--questions", "9"]
    done = subprocess.run([*command, *on], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    head, one, two = rows
    assert [len(row) for row in rows] == [9, 9, 9]
    assert one[:3] == ["1", "9", "1.00 (1.00 … 1.00)"]
    assert two[:2] == ["2", "18"]
    for row, questions in ((one, 9), (two, 18)):
        least, most = map(int, row[head.index("asked of each")].split(" … "))
        assert 0 < least <= most
        assert least + (most if row is two else 0) == questions


def test_a_fleet_without_one_server_has_nothing_to_compare_with() -> None:
    command = [sys.executable, "-m", "bench.fleet", "--servers", "2,4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "'2,4' does not begin with 1 and grow from there" in done.stderr
