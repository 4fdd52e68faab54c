"""The shipped questions: their form, and that the generator in tools/ is what wrote them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from tools.demo_model.benchmark import write_benchmark
from tools.demo_model.question import Fact
from tools.demo_model.split import split
from tools.demo_model.subjects import Subject


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.csv")}


def _rows(folder: Path, part: str) -> dict[str, list[list[str]]]:
    rows = {}
    for path in sorted((folder / part).glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows[path.stem.removesuffix(f"_{part}")] = list(csv.reader(file))
    return rows


def test_the_generator_writes_the_shipped_files_byte_for_byte(benchmark_folder: Path, tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    assert _files(tmp_path) == _files(benchmark_folder)


def test_there_are_enough_subjects_questions_and_shots(benchmark_folder: Path) -> None:
    dev, test = _rows(benchmark_folder, "dev"), _rows(benchmark_folder, "test")
    assert dev.keys() == test.keys()
    assert len(test) >= 6
    assert sum(map(len, test.values())) >= 600
    assert all(len(rows) >= 5 for rows in dev.values())


def test_every_row_has_a_question_four_different_options_and_a_letter(benchmark_folder: Path) -> None:
    for part in ("dev", "test"):
        for subject, rows in _rows(benchmark_folder, part).items():
            for row in rows:
                stem, *options, letter = row
                assert stem, (subject, row)
                assert len(set(options)) == 4, (subject, row)
                assert letter in {"A", "B", "C", "D"}, (subject, row)


def test_no_question_is_asked_twice(benchmark_folder: Path) -> None:
    stems = Counter(
        row[0] for part in ("dev", "test") for rows in _rows(benchmark_folder, part).values() for row in rows
    )
    assert [stem for stem, times in stems.items() if times > 1] == []


def test_every_letter_is_right_about_as_often_as_the_others(benchmark_folder: Path) -> None:
    letters = Counter(row[5] for rows in _rows(benchmark_folder, "test").values() for row in rows)
    assert min(letters.values()) > 0.2 * letters.total()


def test_a_subject_with_too_few_facts_is_refused() -> None:
    few = Subject("few", (Fact(("What?",), "this", ("that", "those", "these")),) * 99)
    with pytest.raises(ValueError, match="few has 99 facts, the benchmark asks for 100"):
        split(few)
