"""The hub's forms of the benchmarks: parquet files, whose columns tell whose they are.

MMLU: question, subject, choices (four), answer (0 to 3). MMLU-Pro: question, category, options (up to ten),
answer (a letter). CMMLU and C-Eval: a column for each option, and a folder for each subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from trt_common.one_line import first_line_of

from mmlu_client.data.family import CEVAL, CMMLU, MMLU, MMLU_PRO, Family
from mmlu_client.data.files import data_files
from mmlu_client.data.lettered import lettered_columns
from mmlu_client.data.question import FEWEST_OPTIONS, LETTERS, Question, letter_in
from mmlu_client.errors import InputError

COLUMNS = ("question", "subject", "choices", "answer")
PRO_COLUMNS = ("question", "category", "options", "answer", "answer_index")
# Those that tell MMLU-Pro's table from the others.
PRO_ALONE = frozenset({"options", "answer_index", "category"})
OPTIONS = 4
BATCH_ROWS = 1024
# A table's files count from 0: test-00000-of-00002.parquet, test-00001-of-00002.parquet.
SHARD = re.compile(r"-(?P<number>\d+)-of-(?P<count>\d+)")


Subjects: TypeAlias = dict[str, list[Question]]
# Appends the question of a row, at a place, to its subject.
Add: TypeAlias = Callable[[Subjects, Mapping[str, Any], str], None]


def parquet_family(folder: Path) -> Family | None:
    """Tell whose parquet files the folder has, by the columns of the first; None where it has none.

    Raises:
        InputError: that file cannot be read as parquet.
    """
    for split in ("test", "val"):
        if paths := _parquet_files(folder, split):
            return _family_of(_columns(paths[0]))
    return None


def read_parquet(folder: Path, family: Family, split: str) -> Subjects:
    """Read the questions of one split: from `all/`, else the folder itself, else one folder a subject.

    Args:
        folder: the folder that holds the parquet files.
        family: whose they are.
        split: the split's name, as in the files' names.

    Returns:
        The questions of each subject.

    Raises:
        InputError: a file is not in this layout, or is missing; the message names it.
        OSError: a file cannot be read.
    """
    subjects: Subjects = {}
    paths = _parquet_files(folder, split)
    _check_shards(paths)
    for path in paths:
        names, add = _form(family, path, split)
        for number, row in enumerate(_rows(path, names)):
            add(subjects, row, f"{path}: row {number}")
    return subjects


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """List the files of a split; the hub's own conversions have a folder for it, and no name before."""
    for name in (f"{split}-*.parquet", f"{split}/*.parquet"):
        for pattern in (f"all/{name}", name, f"*/{name}"):
            if paths := data_files(folder, pattern):
                return paths
    return []


def _family_of(columns: Sequence[str]) -> Family:
    if "choices" in columns:
        return MMLU
    if not PRO_ALONE.isdisjoint(columns):
        return MMLU_PRO
    if "Question" in columns or "Answer" in columns:
        return CMMLU
    return CEVAL if "A" in columns else MMLU


def _form(family: Family, path: Path, split: str) -> tuple[Sequence[str], Add]:
    """Return the columns of a file that are read, and what makes a question of a row of them."""
    columns = _columns(path)
    if family is MMLU:
        check_columns(columns, str(path))
        return COLUMNS, _add
    if family is MMLU_PRO:
        check_columns(columns, str(path), PRO_COLUMNS)
        return PRO_COLUMNS, _add_pro
    found, subject = lettered_columns(columns, str(path)), _folder_of_subject(path, split).name

    def add(subjects: Subjects, row: Mapping[str, Any], place: str) -> None:
        questions = subjects.setdefault(subject, [])
        questions.append(found.question(row, place, subject, len(questions)))

    return found.names, add


def _folder_of_subject(path: Path, split: str) -> Path:
    return path.parent.parent if path.parent.name == split else path.parent


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


def _columns(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names: list[str] = pq.read_schema(path).names
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a readable parquet file ({first_line_of(error)})") from None
    return names


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a readable parquet file ({first_line_of(error)})") from None


def check_columns(names: Iterable[str], place: str, wanted: Sequence[str] = COLUMNS) -> None:
    """Check that a table has its columns.

    Args:
        names: the columns that it has.
        place: what messages call the table.
        wanted: the columns that it should have; MMLU's by default.

    Raises:
        InputError: one of them is missing.
    """
    names = list(names)
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(f"{place}: no column {missing[0]!r} (it has {', '.join(map(repr, names))})")


def add_rows(subjects: Subjects, rows: Iterable[Mapping[str, Any]], place: str) -> None:
    """Append the rows of MMLU's table as questions to their subjects.

    Args:
        subjects: the questions so far, by subject; they are added to.
        rows: rows with the four columns.
        place: what messages call the table.

    Raises:
        InputError: a row is no question; the message has its number.
    """
    for number, row in enumerate(rows):
        _add(subjects, row, f"{place}: row {number}")


def _add(subjects: Subjects, row: Mapping[str, Any], place: str) -> None:
    text, subject, choices, answer = (row[column] for column in COLUMNS)
    if not isinstance(text, str) or not isinstance(subject, str):
        raise InputError(f"{place}: question and subject must be text")
    if not _are_texts(choices) or len(choices) != OPTIONS:
        raise InputError(f"{place}: choices must be four texts, not {choices!r}")
    if not isinstance(answer, int) or not 0 <= answer < OPTIONS:
        raise InputError(f"{place}: the answer is {answer!r}, not one of 0, 1, 2, 3")
    questions = subjects.setdefault(subject, [])
    questions.append(Question(subject, len(questions), text, tuple(choices), LETTERS[answer]))


def _add_pro(subjects: Subjects, row: Mapping[str, Any], place: str) -> None:
    text, subject, options, answer, index = (row[column] for column in PRO_COLUMNS)
    if not isinstance(text, str) or not isinstance(subject, str):
        raise InputError(f"{place}: question and category must be text")
    if not _are_texts(options) or not FEWEST_OPTIONS <= len(options) <= len(LETTERS):
        raise InputError(
            f"{place}: options must be {FEWEST_OPTIONS} to {len(LETTERS)} texts, not {options!r}"
        )
    letters = LETTERS[: len(options)]
    letter = letter_in(answer, letters) if isinstance(answer, str) else None
    if letter is None:
        raise InputError(f"{place}: the answer is {answer!r}, not one of {', '.join(letters)}")
    if index != letters.index(letter):
        raise InputError(f"{place}: the answer is {letter}, but answer_index is {index!r}: one is wrong")
    questions = subjects.setdefault(subject, [])
    questions.append(Question(subject, len(questions), text, tuple(options), letter))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
