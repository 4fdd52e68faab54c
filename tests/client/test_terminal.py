"""What a person reads at the end of a run, in 80 columns."""

from __future__ import annotations

import io
import os
import pty
import subprocess
from pathlib import Path

import pytest
from client_process import SECONDS, client
from double import Double
from mmlu import write_benchmark
from mmlu_client.data.question import LETTERS, Question
from mmlu_client.report.table import Row
from mmlu_client.report.terminal import stacked
from mmlu_client.rundir.record import INFER, Record
from mmlu_client.watch.progress import LineProgress, Tally
from rich.console import Console
from run_files import page, summary
from terminal_output import read_to_end
from tokenizer_kinds import byte_level, tokenizer_files
from trt_common.installed_program import program

TOKENIZER = tokenizer_files(byte_level())
NOTICE = "demo model: small, trained for this demonstration; its questions are not MMLU"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of three groups, and of none."""
    return write_benchmark(
        tmp_path / "data",
        {"anatomy": 8, "astronomy": 4, "sociology": 6, "virology": 2, "home_made": 4},
    )


def cells(table: str) -> dict[str, str]:
    """Head → cell of the row below it, of every table in a text."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    heads, rows = lines[0::3], lines[2::3]
    return {
        head.strip(): cell.strip()
        for names, row in zip(heads, rows, strict=True)
        for head, cell in zip(names, row, strict=True)
    }


def test_the_row_and_a_few_lines_fit_a_terminal(data: Path, output: Path) -> None:
    with Double(TOKENIZER, notice=NOTICE) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    assert result.returncode == 0, result.stderr
    *_, last = lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80 or max(lines, key=len) == last
    assert last == f"written to {output}"
    figures, shown = summary(output), cells(result.stdout)
    assert list(shown) == [
        "tool", "precision", "bs", "e2e_time", "p_val_whole", "p_val_core", "p_infer_whole", "p_infer_core",
        "MFU", "acc", "mem",
    ]  # fmt: skip
    assert shown["p_infer_core"] == f"{figures['p_infer_core']:.2f}"
    assert shown["acc"] == f"{figures['acc']:.3f} (demo model)"
    below = result.stdout.rpartition("|\n")[2]
    for words in (
        f"accuracy: {figures['acc']:.3f} (demo model), 95 % interval {figures['acc_low']:.3f}",
        "questions: 24 of 24 answered",
        f"speed: {figures['p_infer_whole']:,.0f} tokens/s whole, {figures['p_infer_core']:,.0f} core",
        "device: none; peak 0.001 TFLOP/s (made up)",
        "p_val_*: / because no reference was asked; --validate asks one",
    ):
        assert words in below
    named = ("demo model: ", "accuracy: ", "questions: ", "speed: ", "device: ", "p_val_*: ", "written to ")
    # Remarks, which come and go with the speed of this machine.
    remarks = ("THE CLIENT WAS A BOTTLENECK", "MFU above", "  ")
    assert not [line for line in below.splitlines() if line and not line.startswith((*named, *remarks))]
    assert "latency of a request" not in result.stdout
    assert "latency of a request" in page(output)


def test_verbose_prints_every_line(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, "--verbose")
    again = client("report", output, "--verbose")
    for text in (result.stdout, again.stdout):
        words = " ".join(text.split())
        for line in page(output).splitlines():
            if line.startswith("- "):
                assert " ".join(line.split()) in words
        assert "| home_made" in text
    # Nobody looks on: a line for each subject all the same, as asked for.
    for subject in ("anatomy", "astronomy", "sociology", "virology", "home_made"):
        assert f"mmlu-client: {subject}: acc " in result.stderr


def test_progress_of_a_run_that_nobody_looks_at_is_a_line(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"mmlu-client: 24/24 questions, acc {summary(output)['acc']:.3f}, ")


def test_lines_for_logs_come_by_tenths_and_minutes() -> None:
    """Questions are answered at a second each, then at ten."""
    questions = [Question("alpha", number, "?", ("a", "b", "c", "d"), "A") for number in range(200)]
    out, seconds = io.StringIO(), [0.0]
    progress = LineProgress(Console(file=out, width=200), is_whole=False, clock=lambda: seconds[0])
    progress.start(Tally(questions, "", INFER))
    for number, question in enumerate(questions):
        seconds[0] += 1.0 if number < 100 else 10.0
        progress.update([Record("alpha", question.index, INFER, 0, "A", error="lost")])
    told = [int(line.partition("/")[0].rpartition(" ")[2]) for line in out.getvalue().splitlines()]
    assert told[:6] == [20, 40, 60, 80, 100, 106]
    assert told[-2:] == [196, 200]
    assert len(told) == 5 + 100 // 6 + 1


def test_accuracy_by_subject_and_group(data: Path, output: Path) -> None:
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    figures = summary(output)
    subjects, groups = figures["acc_by_subject"], figures["acc_by_group"]
    assert list(subjects) == ["anatomy", "astronomy", "home_made", "sociology", "virology"]
    assert [subjects[name]["answered"] for name in subjects] == [8, 4, 4, 6, 2]
    assert sum(each["correct"] for each in subjects.values()) == round(figures["acc"] * 24)
    # Hendrycks has anatomy under health, which is "other"; lm-evaluation-harness has it under STEM.
    right = subjects["anatomy"]["correct"] + subjects["virology"]["correct"]
    assert list(groups) == ["stem", "social_sciences", "other"]
    assert (groups["other"]["answered"], groups["other"]["acc"]) == (10, right / 10)
    assert groups["stem"] == subjects["astronomy"]
    text = page(output)
    assert f"| STEM            | {subjects['astronomy']['acc']:.3f}    |" in text
    assert f"| anatomy   | {subjects['anatomy']['acc']:.3f}    |" in text


def test_data_that_is_not_mmlu_has_no_groups(tmp_path: Path, output: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"home_made": 2})
    with Double(TOKENIZER) as double:
        client("--url", double.url, "--data", data, "--output", output)
    assert summary(output)["acc_by_group"] is None
    assert "| group" not in page(output)
    assert "| home_made |" in page(output)


def test_on_a_terminal_each_subject_is_shown(data: Path, output: Path) -> None:
    ours, theirs = pty.openpty()
    with Double(TOKENIZER) as double:
        arguments = ["--url", double.url, "--data", str(data), "--output", str(output)]
        process = subprocess.Popen(
            [program("mmlu-client"), *arguments],
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "80"},
        )
        os.close(theirs)
        shown = read_to_end(ours)
        process.wait(SECONDS)
    lines = shown.decode().replace("\r", "").splitlines()
    figures = summary(output)
    assert lines[0] == "accuracy by group:"
    assert f"STEM            {figures['acc_by_group']['stem']['acc']:.3f}" in lines[1]
    assert any(f"anatomy   {figures['acc_by_subject']['anatomy']['acc']:.3f}" in line for line in lines)
    assert max(len(line) for line in lines if not line.startswith("written to")) <= 80


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--limit", "2"), "acc*: 10 of 24 questions of {}; the run was to ask 10 (--limit 2)"),
        (("--subjects", "virology"), "acc*: 2 of 24 questions of {}; the run was to ask 2 (--subjects)"),
        (("--request-count", "3"), "acc*: 3 of 24 questions of {}; the run was to ask 3 (--request-count 3)"),
    ],
)
def test_a_part_of_the_benchmark_is_marked(
    data: Path, output: Path, flags: tuple[str, ...], told: str
) -> None:
    with Double(TOKENIZER) as double:
        result = client("--url", double.url, "--data", data, "--output", output, *flags)
    figures = summary(output)
    assert cells(result.stdout)["acc"] == f"{figures['acc']:.3f}*"
    assert told.format(data) in page(output)
    assert f"{figures['answered']} of 24 questions" in result.stdout
    assert figures["benchmark_questions"] == 24


def test_a_table_is_broken_between_columns() -> None:
    rows: list[Row] = [("name", *LETTERS[:4]), ("first", "1" * 30, "2" * 30, "3" * 30, "4")]
    parts = stacked(rows, 80, repeated=1).split("\n\n")
    assert [part.splitlines()[0].split() for part in parts] == [
        ["|", "name", "|", "A", "|", "B", "|"], ["|", "name", "|", "C", "|", "D", "|"],
    ]  # fmt: skip
    assert stacked(rows, 200, repeated=1).count("\n\n") == 0
    assert stacked([("a", "b"), ("x" * 100, "y")], 80).count("\n\n") == 1
