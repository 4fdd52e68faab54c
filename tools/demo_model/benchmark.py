"""Writes the demo benchmark as Hendrycks' CSV files.

python -m tools.demo_model.benchmark client/mmlu_client/data/demo
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from tools.demo_model.question import Question
from tools.demo_model.split import split
from tools.demo_model.subjects import all_subjects


def write_benchmark(folder: Path) -> None:
    """Write dev/<subject>_dev.csv and test/<subject>_test.csv: stem, four options, letter; no header."""
    for subject in all_subjects():
        parts = split(subject)
        for name, questions in (("dev", parts.dev), ("test", parts.test)):
            _write_csv(folder / name / f"{subject.name}_{name}.csv", questions)


def _write_csv(path: Path, questions: tuple[Question, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows((each.stem, *each.options, each.letter) for each in questions)


def main() -> None:
    """Write the files into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_benchmark(parser.parse_args().folder)


if __name__ == "__main__":
    main()
