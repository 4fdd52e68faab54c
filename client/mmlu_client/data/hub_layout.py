"""The hub's form of the benchmark: columns question, subject, choices, answer (0 to 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trt_common.one_line import first_line_of

from mmlu_client.data.files import data_files
from mmlu_client.data.question import LETTERS, Question
from mmlu_client.errors import InputError

COLUMNS = ("question", "subject", "choices", "answer")
BATCH_ROWS = 1024
# A table's files count from 0: test-00000-of-00002.parquet, test-00001-of-00002.parquet.
SHARD = re.compile(r"-(?P<number>\d+)-of-(?P<count>\d+)")


def has_parquet(folder: Path) -> bool:
    """Tell whether the folder has test questions in this layout."""
    return any(_parquet_files(folder, "test"))


def read_parquet(folder: Path, split: str) -> dict[str, list[Question]]:
    """Read the questions of one split: from `all/`, else the folder itself, else one folder a subject.

    Args:
        folder: the folder that holds the parquet files.
        split: "dev" or "test".

    Returns:
        The questions of each subject.

    Raises:
        InputError: a file is not in this layout, or is missing; the message names it.
        OSError: a file cannot be read.
    """
    subjects: dict[str, list[Question]] = {}
    paths = _parquet_files(folder, split)
    _check_shards(paths)
    for path in paths:
        add_rows(subjects, _rows(path), str(path))
    return subjects


def _parquet_files(folder: Path, split: str) -> list[Path]:
    for pattern in (f"all/{split}-*.parquet", f"{split}-*.parquet", f"*/{split}-*.parquet"):
        if paths := data_files(folder, pattern):
            return paths
    return []


def _check_shards(paths: Sequence[Path]) -> None:
    """Check that all files of a table are there, and that they were written together.

    Raises:
        InputError: one is missing, or they are of two writings.
    """
    tables: dict[Path, dict[int, set[int]]] = {}
    for path in paths:
        if (match := SHARD.search(path.name)) is not None:
            tables.setdefault(path.parent, {}).setdefault(int(match["count"]), set()).add(
                int(match["number"])
            )
    for folder, writings in tables.items():
        if len(writings) > 1:
            counts = " and ".join(map(str, sorted(writings)))
            raise InputError(f"{folder} holds one split twice, in {counts} files: move one of them away")
        ((count, numbers),) = writings.items()
        if missing := sorted(set(range(count)) - numbers):
            raise InputError(
                f"{folder} lacks file {missing[0]:05} of {count:05} of a split: copy it there too"
            )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, str(path))
            for batch in file.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a readable parquet file ({first_line_of(error)})") from None


def check_columns(names: Iterable[str], place: str) -> None:
    """Check that the table has the four columns.

    Args:
        names: the columns that it has.
        place: what messages call the table.

    Raises:
        InputError: one of the four is missing.
    """
    names = list(names)
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise InputError(f"{place}: no column {missing[0]!r} (it has {', '.join(map(repr, names))})")


def add_rows(subjects: dict[str, list[Question]], rows: Iterable[Mapping[str, Any]], place: str) -> None:
    """Append the rows as questions to their subjects.

    Args:
        subjects: the questions so far, by subject; they are added to.
        rows: rows with the four columns.
        place: what messages call the table.

    Raises:
        InputError: a row is no question; the message has its number.
    """
    for number, row in enumerate(rows):
        question = _question(row, f"{place}: row {number}", subjects)
        subjects.setdefault(question.subject, []).append(question)


def _question(row: Mapping[str, Any], place: str, subjects: Mapping[str, Sequence[Question]]) -> Question:
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
    return Question(subject, len(subjects.get(subject, ())), text, (a, b, c, d), LETTERS[answer])
