"""Benchmarks for tests: real MMLU where it lies beside the repository, and small files made here."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

MMLU = Path(__file__).parents[3] / "shared" / "data" / "mmlu"
needs_mmlu = pytest.mark.skipif(not MMLU.is_dir(), reason="no MMLU in ../shared/data/mmlu")

Row = Sequence[str]


def rows(count: int, subject: str) -> list[Row]:
    return [
        (f"What is number {number} of {subject}?", "one", "two", "three", "four", "ABCD"[number % 4])
        for number in range(count)
    ]


def write_csv(path: Path, lines: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def write_benchmark(folder: Path, sizes: dict[str, int], shots: int = 5) -> Path:
    """A folder in Hendrycks' layout: subject → how many test questions."""
    for subject, size in sizes.items():
        write_csv(folder / "dev" / f"{subject}_dev.csv", rows(shots, f"dev {subject}"))
        write_csv(folder / "test" / f"{subject}_test.csv", rows(size, subject))
    return folder
