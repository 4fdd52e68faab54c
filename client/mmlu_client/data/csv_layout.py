"""The original layout: `<split>/<subject>_<split>.csv`, no header; question, four options, letter."""

from __future__ import annotations

from pathlib import Path

from mmlu_client.data.csv_rows import csv_rows
from mmlu_client.data.files import data_files
from mmlu_client.data.question import LETTERS, Letter, Question, letter_in
from mmlu_client.errors import InputError

OPTIONS = 4
COLUMNS = OPTIONS + 2
# What headers call their columns, where other programs wrote one.
TEXT_NAMES = frozenset({"question", "questions", "prompt", "input", "query", "text"})
ANSWER_NAMES = frozenset(
    {"answer", "answers", "answer_key", "correct", "correct_answer", "gold", "label", "target"}
)
OTHER_SEPARATORS = (";", "\t", "|")


def has_csv(folder: Path) -> bool:
    """Tell whether the folder has test questions in this layout."""
    return bool(data_files(folder / "test", "*_test.csv"))


def dev_file(folder: Path, subject: str) -> Path:
    """Name the file that the subject's dev questions stand in."""
    return folder / "dev" / f"{subject}_dev.csv"


def read_csv(folder: Path, split: str) -> dict[str, list[Question]]:
    """Read the questions of one split.

    Args:
        folder: the folder that has `dev/` and `test/`.
        split: "dev" or "test".

    Returns:
        The questions of each subject; subjects are in alphabetical order.

    Raises:
        InputError: a file is not in this layout; the message names file and line.
        OSError: a file cannot be read.
    """
    suffix = f"_{split}.csv"
    found = {path.name.removesuffix(suffix): path for path in data_files(folder / split, f"*{suffix}")}
    return {subject: _read_subject(path, subject) for subject, path in found.items()}


def _read_subject(path: Path, subject: str) -> list[Question]:
    questions: list[Question] = []
    for place, row in csv_rows(path):
        if not questions:
            _check_no_header(row, place)
        questions.append(_question(row, place, subject, len(questions)))
    if not questions:
        raise InputError(f"{path} holds no questions")
    return questions


def _check_no_header(row: list[str], place: str) -> None:
    """Check that the first row does not name the columns: nothing is dropped unseen.

    Raises:
        InputError: the row names them.
    """
    names = [cell.strip().lower().replace(" ", "_") for cell in row]
    if TEXT_NAMES & set(names) and ANSWER_NAMES & {names[0], names[-1]}:
        raise InputError(
            f"{place}: a header ({', '.join(row)}), and this layout has none: delete the line, and see that "
            "the columns are question, four options and the answer's letter"
        )


def _question(row: list[str], place: str, subject: str, index: int) -> Question:
    if len(row) != COLUMNS:
        columns = "1 column" if len(row) == 1 else f"{len(row)} columns"
        raise InputError(
            f"{place}: {columns} where question, four options and answer make {COLUMNS}{_separator(row)}"
        )
    text, a, b, c, d, answer = row
    return Question(subject, index, text, (a, b, c, d), _letter(answer, place))


def _separator(row: list[str]) -> str:
    """Say which separator the row seems to have, if it is not the comma."""
    line = ",".join(row)
    for separator in OTHER_SEPARATORS:
        if line.count(separator) >= COLUMNS - 1:
            return f": separate them by commas, not by {separator!r}"
    return ""


def _letter(cell: str, place: str) -> Letter:
    letter = letter_in(cell, LETTERS[:OPTIONS])
    if letter is None:
        raise InputError(f"{place}: the answer is {cell!r}, not one of A, B, C, D")
    return letter
