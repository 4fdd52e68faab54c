"""records.jsonl as columns: what every figure is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json as pa_json
from trt_common.one_line import first_line_of
from trt_common.private_file import open_regular

from mmlu_client.data.question import LETTERS
from mmlu_client.errors import InputError
from mmlu_client.rundir.answered import NOT_FINITE
from mmlu_client.rundir.document_record import DocumentRecord
from mmlu_client.rundir.record import Record

Column = NDArray[Any]

NO_ROWS: Column = np.zeros(0, dtype=np.int64)
# A column that is made when a file is read.
IS_GRADED = "is_graded"
# What not every server tells: whether a record has it is a column of its own.
UNTOLD = ("server_ns", "batch", "flops", "tokens.computed")
KNOWN = "is_known."

# Of records.jsonl, parsed at a time.
BLOCK_BYTES = 2**20

PLAIN_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
# What stands for a value that a record does not have; a fraction's is NaN.
ABSENT = {pa.string(): "", pa.int64(): 0, pa.bool_(): False}


def arrow_type(kind: Any) -> pa.DataType:
    """Give the Arrow type of a field of Record; None becomes null."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return pa.struct([(name, arrow_type(each)) for name, each in get_type_hints(kind).items()])
    if origin is list:
        return pa.list_(arrow_type(inner[0]))
    if origin is dict:
        return pa.struct([(key, arrow_type(inner[1])) for key in get_args(inner[0])])
    if origin in (Union, UnionType):
        return arrow_type(next(each for each in inner if each is not NoneType))
    return PLAIN_TYPES[str if origin is Literal else kind]


# Of a document's record, what a record of a question does not have.
LOGLIKELIHOODS, OTHER_REQUESTS = "loglikelihoods", "other_requests"
_DOCUMENT_TYPES = get_type_hints(DocumentRecord)
SCHEMA = pa.schema(
    [
        *arrow_type(Record),
        *((name, arrow_type(_DOCUMENT_TYPES[name])) for name in (LOGLIKELIHOODS, OTHER_REQUESTS)),
    ]
)


class RecordTable:
    """A table of records, one a row, which figures are computed from.

    Columns are named as the file's keys, nested ones with a dot: "tokens.logical". A whole number that a
    record lacks is 0, a text empty, a fraction NaN. Choosing rows copies nothing but their numbers, so that
    a table costs what its file's columns do, once.
    """

    def __init__(
        self,
        columns: Mapping[str, Column | pa.DictionaryArray],
        rows: Column,
        owners: Column = NO_ROWS,
    ) -> None:
        """Take rows of columns.

        Args:
            columns: columns by name, [records + owners]; texts as Arrow's dictionaries. After the records
                stand the further requests of those that needed several, each as a row like its record's,
                without its tokens and FLOPs.
            rows: the numbers of the rows that are in this table, in order.
            owners: the number of the record of each further request.
        """
        self._columns = columns
        self._rows = rows
        self._owners = owners

    def __getitem__(self, name: str) -> Column:
        column = self._columns[name]
        if isinstance(column, pa.DictionaryArray):
            return _array(column.take(pa.array(self._rows)))
        return column[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, rows: Column) -> RecordTable:
        """Choose rows, by a mask or by their numbers."""
        return RecordTable(self._columns, self._rows[rows], self._owners)

    def phase(self, name: str) -> RecordTable:
        """Choose the rows of one phase, VAL or INFER."""
        return self.where(self["phase"] == name)

    @property
    def is_scored(self) -> Column:
        """Whether the question has scores, for each row."""
        return np.equal(self["error"], "").astype(bool)

    @property
    def correct(self) -> Column:
        """Whether the letter that was predicted is the right one, or a task's `acc` is 1, for each row."""
        right: Column = self["correct"].astype(bool)
        return self.is_scored & right

    @property
    def is_graded(self) -> Column:
        """Whether it is known if it is right, for each row: not of a document whose task has no `acc`."""
        known: Column = self[IS_GRADED].astype(bool)
        return self.is_scored & known

    @property
    def top_is_answer(self) -> Column:
        """Whether the arg-max of the whole vocabulary is the right letter's token, for each row."""
        letter_ids = np.select(
            [self["answer"] == letter for letter in LETTERS],
            [self[f"candidates.{letter}"] for letter in LETTERS],
        )
        right: Column = np.equal(self["top_token"], letter_ids).astype(bool)
        return self.is_scored & right

    @property
    def logprobs(self) -> Column:
        """The log-probabilities of the letters, [questions, 10].

        NaN where a question has no such option, and where it has no scores.
        """
        return np.stack([self[f"logprobs.{letter}"] for letter in LETTERS], axis=1)

    @property
    def tied(self) -> Column:
        """Whether several letters have the largest log-probability, for each row."""
        logprobs = self.logprobs
        best = logprobs == np.fmax.reduce(logprobs, axis=1, keepdims=True)
        several: Column = best.sum(axis=1) > 1
        return self.is_scored & several

    @property
    def options(self) -> Column:
        """How many options each row's question has; 0 without scores."""
        counted: Column = (np.isfinite(self.logprobs) | np.isfinite(self._bounds)).sum(axis=1)
        return counted

    @property
    def is_bounded(self) -> Column:
        """Whether the server did not tell the log-probability of one of the letters, for each row."""
        found: Column = self.is_scored & np.isfinite(self._bounds).any(axis=1)
        return found

    @property
    def _bounds(self) -> Column:
        """Bounds of the letters' log-probabilities, [questions, 10]; NaN for those that were told."""
        return np.stack([self[f"below.{letter}"] for letter in LETTERS], axis=1)

    def knows(self, name: str) -> bool:
        """Tell whether every row has this of UNTOLD."""
        return bool(self[f"{KNOWN}{name}"].all())

    @property
    def chance(self) -> float | None:
        """The share that a guess gets right on average: the mean of 1 / options over the scored questions.

        None where there are none, as among the documents of tasks.
        """
        options = self.where(self.is_scored).options
        options = options[options > 0]
        return float((1 / options).mean()) if len(options) else None

    @property
    def is_not_finite(self) -> Column:
        """Whether the server answered with scores that are no numbers, for each row."""
        found: Column = np.array([text.startswith(NOT_FINITE) for text in self["error"]], dtype=bool)
        return found

    def requests(self) -> RecordTable:
        """Choose one row for each request that was answered with scores: the first of its questions."""
        scored = self.where(self.is_scored).with_other_requests()
        _, rows = np.unique(scored._request_codes, return_index=True)
        return scored.where(np.sort(rows))

    def request_sums(self, name: str) -> NDArray[np.float64]:
        """Add up a column of the scored questions over each of `requests()`, in the order of those."""
        scored = self.where(self.is_scored).with_other_requests()
        ids, first, place = np.unique(scored._request_codes, return_index=True, return_inverse=True)
        sums: NDArray[np.float64] = np.zeros(len(ids))
        np.add.at(sums, place, scored[name])
        return sums[np.argsort(first)]

    def with_other_requests(self) -> RecordTable:
        """Add a row for each further request of a record that needed several, after all records."""
        if not len(self._owners):
            return self
        first = len(self._columns["index"]) - len(self._owners)
        others = first + np.flatnonzero(np.isin(self._owners, self._rows))
        return RecordTable(self._columns, np.concatenate([self._rows, others]), self._owners)

    @property
    def _request_codes(self) -> Column:
        """A number for the request of each row, the same for the same request."""
        codes: Any = self._columns["request.id"]
        return _array(codes.indices)[self._rows]

    def questions(self) -> list[tuple[str, int]]:
        """List the subject and the index of each row."""
        return list(zip(self["subject"].tolist(), self["index"].tolist(), strict=True))


def read_records(path: Path) -> RecordTable:
    """Read the file's whole lines.

    Raises:
        InputError: the file cannot be read, or is none of this program's.
    """
    tables, others, owners = [_filled(SCHEMA.empty_table())], [], [NO_ROWS]
    records = 0
    try:
        for block in _blocks(path):
            parsed = _parse(block)
            if (further := _other_requests(parsed)) is not None:
                others.append(_filled(further[0]))
                owners.append(records + further[1])
            tables.append(_filled(parsed))
            records += len(parsed)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a file of records: {first_line_of(error)}") from None
    table = pa.concat_tables([*tables, *others]).unify_dictionaries()
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return RecordTable(
        {name: each if _is_text(each.type) else _array(each) for name, each in columns.items()},
        np.arange(records, dtype=np.int32),
        np.concatenate(owners),
    )


def _blocks(path: Path) -> Iterator[bytes]:
    """Read whole lines, a few thousand at a time."""
    with open(path, "rb", opener=open_regular) as file:
        begun = b""
        while data := file.read(BLOCK_BYTES):
            lines, end, begun = (begun + data).rpartition(b"\n")
            if end:
                yield lines + end


def _parse(lines: bytes) -> pa.Table:
    parsing = pa_json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
    reading = pa_json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    return pa_json.read_json(pa.py_buffer(lines), read_options=reading, parse_options=parsing)


def _other_requests(records: pa.Table) -> tuple[pa.Table, Column] | None:
    """Return a row for each further request, and the number of its record; None where there is none."""
    column = records[OTHER_REQUESTS].combine_chunks()
    owners = pc.list_parent_indices(column)
    if not len(owners):
        return None
    found, requests = records.take(owners), column.flatten()
    for field in requests.type:
        place = found.schema.get_field_index(field.name)
        found = found.set_column(place, field.name, requests.field(field.name))
    for name in ("tokens", "flops"):
        place = found.schema.get_field_index(name)
        found = found.set_column(place, name, pa.nulls(len(found), found.schema.field(name).type))
    return found, _array(owners)


def _filled(records: pa.Table) -> pa.Table:
    """Put nested columns beside each other, fill nulls, and encode texts as dictionaries."""
    table = records.drop_columns([OTHER_REQUESTS]).flatten()
    table = table.append_column(IS_GRADED, pc.is_valid(records["correct"]))
    for name in UNTOLD:
        whole = records[name] if name in records.column_names else table[name]
        table = table.append_column(f"{KNOWN}{name}", pc.is_valid(whole))
    columns = [
        column.fill_null(ABSENT[column.type]) if column.type in ABSENT else column for column in table.columns
    ]
    return pa.table(
        [column.dictionary_encode() if pa.types.is_string(column.type) else column for column in columns],
        names=table.column_names,
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind))


def _array(column: pa.Array) -> Column:
    return np.asarray(column.to_numpy(zero_copy_only=False))
