"""A disk that is full at the end: every figure is printed, and one line says what could not be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from client_process import client, the_error
from double import Double, Verdict
from mmlu import write_benchmark
from run_files import records, summary
from small_disk import small_disk
from test_terminal import cells
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
# Enough for a run of a few questions and its figures, but not for its page.
SMALL = 600 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SMALL) as folder:
        yield folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / "data", {"alpha": 6})


def test_a_page_that_finds_no_room_hides_no_figure(data: Path, disk: Path) -> None:
    output = disk / "run"
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 1
    error = the_error(result)
    assert f"cannot write report.html in {output}: No space left on device" in error
    assert f"`mmlu-client report {output}` writes them" in error
    figures, shown = summary(output), cells(result.stdout)
    assert shown["p_infer_core"] == f"{figures['p_infer_core']:.2f}"
    assert "questions: 6 of 6 answered" in result.stdout
    assert "written to" not in result.stdout
    assert len(records(output)) == 6


def test_other_formats_are_printed_too(data: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk, and `report` says the same as the run."""
    output = tmp_path / "run"
    with Double(TOKENIZER) as double:
        result = client(
            "--url", double.url, "--data", data, "--output", output, "--format", "csv", file_size=100_000
        )
    again = client("report", output, "--format", "csv", file_size=100_000)
    for done in (result, again):
        assert done.returncode == 1
        assert f"cannot write report.html in {output}: File too large" in the_error(done)
        assert done.stdout.startswith("engine,")
    assert not list(output.glob(".*"))


def test_a_disk_that_fills_up_before_the_last_answer_hides_no_figure(data: Path, disk: Path) -> None:
    """Neither records nor manifest nor figures can be written then."""
    output = disk / "run"

    def decide(number: int) -> Verdict:
        if number == 4:
            fill(disk)
        return None

    with Double(TOKENIZER, decide) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--concurrency", "1")
    assert result.returncode == 1
    error = the_error(result)
    assert f"cannot write {output}/records.jsonl: No space left on device" in error
    assert "manifest.json, summary.json, summary.md, report.html" in error
    assert f"--resume {output} goes on with it" in error
    kept = len(records(output))
    assert 0 < kept < 6
    assert f"acc*: {kept} of 6 questions" in result.stdout
    assert float(cells(result.stdout)["p_infer_core"]) > 0


def fill(disk: Path) -> None:
    """Until nothing more fits."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def test_a_sweeps_table_is_printed_too(data: Path, disk: Path) -> None:
    output = disk / "sweep"
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--sweep", "concurrency=1,2")
    assert result.returncode == 1
    assert "concurrency-1: 6 of 6 questions" in result.stdout
    assert "| concurrency-1 |" in result.stdout
    assert "cannot write" in the_error(result)
