"""CSV files with headers: CMMLU's `<split>/<subject>.csv`, and C-Eval's `<split>/<subject>_<split>.csv`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmlu_client.data.csv_rows import csv_rows
from mmlu_client.data.family import CMMLU, Family
from mmlu_client.data.files import data_files
from mmlu_client.data.lettered import lettered_columns
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError

# What C-Eval's headers begin with; MMLU's files, of the same names, have none.
CEVAL_HEADER = ["id", "question"]


def is_ceval(folder: Path) -> bool:
    """Tell whether the folder has C-Eval's files."""
    files = [path for split in ("val", "test") for path in data_files(folder / split, f"*_{split}.csv")]
    return any(_begins_with(path, CEVAL_HEADER) for path in files[:1])


def is_cmmlu(folder: Path) -> bool:
    """Tell whether the folder has CMMLU's files."""
    files = data_files(folder / "test", "*.csv")
    return bool(files) and not any(path.stem.endswith("_test") for path in files)


def lettered_file(folder: Path, family: Family, split: str, subject: str) -> Path:
    """Name the file that a subject's questions of one split stand in."""
    return folder / split / f"{subject}{_suffix(family, split)}"


def read_lettered_csv(folder: Path, family: Family, split: str) -> dict[str, list[Question]]:
    """Read the questions of one split.

    Args:
        folder: the folder that has a folder for each split.
        family: CMMLU or CEVAL.
        split: the split's name.

    Returns:
        The questions of each subject; subjects are in alphabetical order.

    Raises:
        InputError: a file is not in this layout; the message names file and line.
        OSError: a file cannot be read.
    """
    suffix = _suffix(family, split)
    found = {path.name.removesuffix(suffix): path for path in data_files(folder / split, f"*{suffix}")}
    return {subject: _read_subject(path, subject) for subject, path in found.items()}


def _suffix(family: Family, split: str) -> str:
    return ".csv" if family is CMMLU else f"_{split}.csv"


def _begins_with(path: Path, names: Sequence[str]) -> bool:
    try:
        _, row = next(csv_rows(path))
    except (StopIteration, InputError):  # whoever reads the file says what is wrong with it
        return False
    return [cell.strip().lower() for cell in row[: len(names)]] == names


def _read_subject(path: Path, subject: str) -> list[Question]:
    rows = csv_rows(path)
    place, header = next(rows, (str(path), []))
    if not header:
        raise InputError(f"{path} holds no questions")
    columns = lettered_columns(header, place)
    questions: list[Question] = []
    for place, row in rows:
        if len(row) != len(header):
            found = "1 column" if len(row) == 1 else f"{len(row)} columns"
            raise InputError(f"{place}: {found} where the header names {len(header)}")
        cells = dict(zip(header, row, strict=True))
        questions.append(columns.question(cells, place, subject, len(questions)))
    if not questions:
        raise InputError(f"{path} holds no questions")
    return questions
