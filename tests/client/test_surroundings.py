"""Surroundings that a run has nothing to do with: standard streams, terminals, Python's own switches."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
from client_process import SECONDS, command
from double import Double
from mmlu import write_benchmark
from run_files import summary
from tokenizer_kinds import byte_level, tokenizer_files
from trt_common.installed_program import program

TOKENIZER = tokenizer_files(byte_level())


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_run_outlives_its_standard_error(tmp_path: Path, unbuffered: str) -> None:
    """As in `2>&1 | head`, when head has seen enough."""
    data, output = write_benchmark(tmp_path / "data", {"alpha": 3}), tmp_path / "run"
    reading, writing = os.pipe()
    os.close(reading)
    with Double(TOKENIZER) as double, os.fdopen(writing, "wb") as closed:
        arguments = ("--url", double.url, "--data", data, "--output", output)
        result = subprocess.run(
            [program("mmlu-client"), *arguments],
            stdout=subprocess.PIPE,
            stderr=closed,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            timeout=SECONDS,
            check=False,
        )
    assert result.returncode == 0
    assert result.stdout.startswith("| tool")
    assert summary(output)["questions"] == 3


def test_a_wrong_argument_keeps_its_status_where_nothing_can_be_said() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([program("mmlu-client"), "--bs", "0"], stderr=full, check=False, timeout=120)
    assert result.returncode == 2


@pytest.mark.parametrize("terminal", [{"TERM": "dumb"}, {"TERM": "xterm", "COLUMNS": "0"}], ids=str)
def test_a_terminal_that_cannot_draw_gets_lines(tmp_path: Path, terminal: dict[str, str]) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 3})
    ours, theirs = pty.openpty()
    with Double(TOKENIZER) as double:
        arguments = ("--url", double.url, "--data", data, "--output", tmp_path / "run")
        result = subprocess.run(
            [program("mmlu-client"), *arguments],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, **terminal},
            timeout=SECONDS,
            check=False,
        )
    os.close(theirs)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert result.returncode == 0, seen
    assert "3/3 questions" in seen
    assert "\x1b" not in seen


def test_nothing_is_left_open_for_python_to_warn_of(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 1})
    with Double(TOKENIZER) as double:
        result = command(
            "--url", double.url, "--data", data, "--output", tmp_path / "run",
            environment={"PYTHONWARNINGS": "error"},
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("mmlu-client: ") for line in result.stderr.splitlines()), result.stderr
