"""What stands where a file is read or written, and is none: pipes, devices and folders."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from client_process import client, command, the_error
from double import Double
from mmlu import write_benchmark
from tokenizer_kinds import byte_level, tokenizer_files

TOKENIZER = tokenizer_files(byte_level())
FILES_READ = ("manifest.json", "records.jsonl", "device.jsonl", "counters.jsonl")
FILES_WRITTEN = ("summary.json", "summary.md", "report.html")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    data = write_benchmark(folder / "data", {"alpha": 3})
    with Double(TOKENIZER) as double:
        assert client("--url", double.url, "--data", data, "--output", folder / "run").returncode == 0
    return folder / "run"


def pipe(path: Path) -> Path:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def is_pipe(path: Path) -> bool:
    return stat.S_ISFIFO(path.lstat().st_mode)


def test_compare_replaces_no_pipe_and_computes_nothing(finished: Path, tmp_path: Path) -> None:
    page = pipe(tmp_path / "page")
    result = command("compare", finished, finished, "--output", page)
    assert result.returncode == 2
    assert the_error(result) == f"cannot write --output {page}: it is no regular file; name another file"
    assert result.stdout == ""
    assert is_pipe(page)


def test_a_campaign_waits_for_no_pipe_without_end(tmp_path: Path) -> None:
    file = pipe(tmp_path / "campaign.yaml")
    result = command("campaign", file, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert the_error(result).startswith(f"cannot read {file}: it is a pipe that was not written")


def test_compare_replaces_no_link_to_a_pipe(finished: Path, tmp_path: Path) -> None:
    pipe(tmp_path / "pipe")
    (tmp_path / "compare.html").symlink_to("pipe")
    result = command("compare", finished, finished, folder=tmp_path)
    assert result.returncode == 2
    assert "compare.html: it is no regular file" in the_error(result)
    assert (tmp_path / "compare.html").is_symlink()


def test_compare_replaces_a_link_to_a_file_and_leaves_the_file(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("precious")
    page = tmp_path / "page.html"
    page.symlink_to("kept")
    result = command("compare", finished, finished, "--output", page)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "kept").read_text() == "precious"
    assert "<html" in page.read_text()


@pytest.mark.parametrize("name", FILES_WRITTEN)
def test_report_replaces_no_pipe(finished: Path, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    pipe(run / name)
    others = [run / each for each in FILES_WRITTEN if each != name]
    for each in others:
        each.unlink()
    result = client("report", run)
    assert result.returncode == 1
    assert the_error(result) == (
        f"cannot write {name} in {run}: it is no regular file; when it is out of the way, "
        f"`mmlu-client report {run}` writes them"
    )
    assert is_pipe(run / name)
    assert all(each.is_file() for each in others)
    assert "| tool" in result.stdout


@pytest.mark.parametrize("name", FILES_READ)
def test_report_waits_for_no_pipe(finished: Path, tmp_path: Path, name: str) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    pipe(run / name)
    result = client("report", run)
    assert result.returncode == 2
    assert f"cannot read {name if name == 'manifest.json' else run / name}: it is no regular file" in (
        the_error(result)
    )


@pytest.mark.parametrize("name", ["records.jsonl", "device.jsonl"])
def test_a_run_waits_for_no_pipe(data: Path, output: Path, name: str) -> None:
    output.mkdir()
    pipe(output / name)
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    if name == "records.jsonl":
        assert result.returncode == 1
        assert the_error(result) == f"cannot write {output / name}: it is no regular file"
        assert is_pipe(output / name)
    else:  # what an earlier start left, which no run is in
        assert result.returncode == 0, result.stderr
