"""What a run holds does not grow with its questions, but for the columns of its records at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from double import Double
from mmlu import rows, write_csv
from tokenizer_kinds import byte_level, tokenizer_files

FEW, MANY = 1000, 2500
TEXT = "The committee found that each of the statements before it was true of the second case only. " * 7
# A question's texts take over 700 bytes, its record as much, the ids of its prompt more.
RUN_BYTES, REPORT_BYTES = 300, 600


def traced(double: Double, folder: Path, questions: int) -> tuple[int, int]:
    """The most bytes held while records are written, and the most ever."""
    for split, count in (("dev", 1), ("test", questions)):
        lines = [(f"{TEXT} {line[0]}", *line[1:]) for line in rows(count, "alpha")]
        write_csv(folder / "data" / split / f"alpha_{split}.csv", lines)
    program = Path(__file__).with_name("traced_client.py")
    arguments = ["--url", double.url, "--data", folder / "data", "--output", folder / "run", "--few-shots", 1]
    result = subprocess.run(
        [sys.executable, program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    while_it_runs, ever = map(int, result.stdout.splitlines()[-1].split())
    return while_it_runs, ever


def test_memory_a_question(tmp_path: Path) -> None:
    with Double(tokenizer_files(byte_level())) as double:
        few, many = (traced(double, tmp_path / str(questions), questions) for questions in (FEW, MANY))
    run, report = ((more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True))
    assert run < RUN_BYTES
    assert report < REPORT_BYTES
