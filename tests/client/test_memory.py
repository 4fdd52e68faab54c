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
# A question's texts take over 700 bytes, its record as much, the ids of its prompt 10,000. At any one moment
# few or many prompts, some hundreds at the most, are built ahead.
LAST_BYTES, MOST_BYTES, EVER_BYTES = 300, 3000, 600


def traced(double: Double, folder: Path, questions: int) -> tuple[int, ...]:
    """Bytes held at the last record, the most at any, and the most ever."""
    for split, count in (("dev", 1), ("test", questions)):
        lines = [(f"{TEXT} {line[0]}", *line[1:]) for line in rows(count, "alpha")]
        write_csv(folder / "data" / split / f"alpha_{split}.csv", lines)
    program = Path(__file__).with_name("traced_client.py")
    arguments = ["--url", double.url, "--data", folder / "data", "--output", folder / "run", "--few-shots", 1]
    result = subprocess.run(
        [sys.executable, program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return tuple(map(int, result.stdout.splitlines()[-1].split()))


def test_memory_a_question(tmp_path: Path) -> None:
    with Double(tokenizer_files(byte_level())) as double:
        few, many = (traced(double, tmp_path / str(questions), questions) for questions in (FEW, MANY))
    last, most, ever = ((more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True))
    assert last < LAST_BYTES
    assert most < MOST_BYTES
    assert ever < EVER_BYTES
