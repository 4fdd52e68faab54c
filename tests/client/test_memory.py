"""What a run holds: its questions, and at the end the columns of their records; no prompts, no answers."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow.parquet  # noqa: F401 - its import on first use would count as the questions'
import pytest
from double import Double
from mmlu import MMLU, needs_mmlu, rows, write_csv
from mmlu_client.data.benchmark import load_benchmark
from tokenizer_kinds import byte_level, tokenizer_files

FEW, MANY = 1000, 2500
TEXT = "The committee found that each of the statements before it was true of the second case only. " * 7
# A question's texts are over 700 bytes, and 1,100 with what Python puts around them; its record takes as much
# again, the ids of its prompt 10,000. Seen: 1,099 bytes a question at the last record, 1,263 at the most,
# 1,178 ever. At any one moment few or many prompts, some hundreds at the most, are built ahead.
LAST_BYTES, MOST_BYTES, EVER_BYTES = 1400, 4000, 1700
# Of a run over as many questions as MMLU has, modules included. Seen: 51 MB at the last record, 108 MB ever.
MMLU_QUESTIONS = 14_042
MMLU_LAST_BYTES, MMLU_EVER_BYTES = 60_000_000, 125_000_000
# Of MMLU's questions alone, those of dev included. Seen: 14.1 MB.
MMLU_DATA_BYTES = 16_000_000


def traced(double: Double, folder: Path, questions: int) -> tuple[int, ...]:
    """Bytes held at the last record, the most at any, and the most ever."""
    for split, count in (("dev", 1), ("test", questions)):
        lines = [(f"{TEXT} {line[0]}", *line[1:]) for line in rows(count, "alpha")]
        write_csv(folder / "data" / split / f"alpha_{split}.csv", lines)
    program = Path(__file__).with_name("traced_client.py")
    arguments = ["--url", double.url, "--data", folder / "data", "--output", folder / "run", "--few-shots", 1]
    result = subprocess.run(
        [sys.executable, program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return tuple(map(int, result.stdout.splitlines()[-1].split()))


def test_memory_a_question(tmp_path: Path) -> None:
    with Double(tokenizer_files(byte_level())) as double:
        few, many = (traced(double, tmp_path / str(questions), questions) for questions in (FEW, MANY))
    last, most, ever = ((more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True))
    assert last < LAST_BYTES
    assert most < MOST_BYTES
    assert ever < EVER_BYTES
    whole = MMLU_QUESTIONS - MANY
    assert many[0] + whole * last < MMLU_LAST_BYTES
    assert many[2] + whole * ever < MMLU_EVER_BYTES


@needs_mmlu
@pytest.mark.parametrize("data", [MMLU, MMLU / "csv"])
def test_memory_of_mmlu(data: Path) -> None:
    tracemalloc.start()
    try:
        benchmark = load_benchmark(str(data))
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, benchmark.test.values())) == MMLU_QUESTIONS
    assert held <= most < MMLU_DATA_BYTES
