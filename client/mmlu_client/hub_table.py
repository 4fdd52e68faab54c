"""The hub's form of the benchmark: columns question, subject, choices, answer (0 to 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError
from mmlu_client.question import LETTERS, Question
from mmlu_client.question_file import QuestionFile, SubjectQuestions

COLUMNS = ("question", "subject", "choices", "answer")
BATCH_ROWS = 1024


def has_parquet(folder: Path) -> bool:
    return any(_parquet_files(folder, "test"))


def read_parquet(folder: Path, split: str) -> dict[str, SubjectQuestions]:
    """The questions of one split by subject: from `all/`, else the folder itself, else one folder a subject.

    Raises InputError naming the file.
    """
    file = QuestionFile()
    for path in _parquet_files(folder, split):
        add_rows(file, _rows(path), str(path))
    return file.subjects


def _parquet_files(folder: Path, split: str) -> list[Path]:
    for pattern in (f"all/{split}-*.parquet", f"{split}-*.parquet", f"*/{split}-*.parquet"):
        if paths := sorted(folder.glob(pattern)):
            return paths
    return []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, str(path))
            for batch in file.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a readable parquet file ({_first_line(error)})") from None


def check_columns(names: Iterable[str], place: str) -> None:
    """Raises InputError where one of the four columns is missing."""
    names = list(names)
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InputError(f"{place}: no column {missing[0]!r} (it has {', '.join(map(repr, names))})")


def add_rows(file: QuestionFile, rows: Iterable[Mapping[str, Any]], place: str) -> None:
    """Append the rows as questions to their subjects. Raises InputError naming the row."""
    for number, row in enumerate(rows):
        file.add(_question(row, f"{place}: row {number}", file))


def _question(row: Mapping[str, Any], place: str, file: QuestionFile) -> Question:
    text, subject, choices, answer = (row[column] for column in COLUMNS)
    if not isinstance(text, str) or not isinstance(subject, str):
        raise InputError(f"{place}: question and subject must be text")
    if (
        not isinstance(choices, list)
        or len(choices) != len(LETTERS)
        or not all(isinstance(c, str) for c in choices)
    ):
        raise InputError(f"{place}: choices must be four texts, not {choices!r}")
    if not isinstance(answer, int) or not 0 <= answer < len(LETTERS):
        raise InputError(f"{place}: the answer is {answer!r}, not one of 0, 1, 2, 3")
    a, b, c, d = choices
    return Question(subject, file.count(subject), text, (a, b, c, d), LETTERS[answer])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
