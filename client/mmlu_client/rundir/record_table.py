"""records.jsonl as columns: what every figure is computed from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as pa_json
from trt_common.one_line import first_line_of

from mmlu_client.data.question import LETTERS
from mmlu_client.errors import InputError
from mmlu_client.rundir.record import NOT_FINITE

Column = NDArray[Any]

SERVER_STAGES = ("tokenize", "queue", "assemble", "copy_in", "core", "copy_out", "total")
# Of records.jsonl, parsed at a time.
BLOCK_BYTES = 2**20
CLIENT_TIMES = ("tokenize", "due", "ready", "sent", "received")


def _struct(kind: pa.DataType, *names: str) -> pa.DataType:
    return pa.struct([(name, kind) for name in names])


SCHEMA = pa.schema(
    {
        "subject": pa.string(),
        "index": pa.int64(),
        "phase": pa.string(),
        "session": pa.int64(),
        "answer": pa.string(),
        "predicted": pa.string(),
        "logprobs": _struct(pa.float64(), *LETTERS),
        "candidates": _struct(pa.int64(), *LETTERS),
        "top_token": pa.int64(),
        "tokens": _struct(pa.int64(), "logical", "computed", "shared_prefix"),
        "flops": pa.int64(),
        "shots": pa.int64(),
        "truncated": pa.bool_(),
        "server": pa.string(),
        "request": pa.struct({"id": pa.string(), "prompts": pa.int64()}),
        "batch": _struct(pa.int64(), "prompts", "padded_length", "padding_tokens"),
        "server_ns": _struct(pa.int64(), *SERVER_STAGES),
        "client_ns": _struct(pa.int64(), *CLIENT_TIMES),
        "error": pa.string(),
    }
)


@dataclass(frozen=True)
class Words:
    """A column of text: each different one is kept once. codes: which, a row; words: all of them."""

    codes: NDArray[np.int32]
    words: Column

    def __getitem__(self, rows: Column) -> Column:
        found: Column = self.words[self.codes[rows]]
        return found


class RecordTable:
    """One row a question. Columns are named as in the file, nested ones with a dot; no number is 0.

    Choosing rows copies nothing but their numbers, so that a table costs what its file's columns do, once.
    """

    def __init__(self, columns: Mapping[str, Column | Words], rows: Column) -> None:
        """rows: those of the columns that are in the table, in order."""
        self._columns = columns
        self._rows = rows

    def __getitem__(self, name: str) -> Column:
        return self._columns[name][self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, rows: Column) -> RecordTable:
        """rows: a mask or row numbers."""
        return RecordTable(self._columns, self._rows[rows])

    def phase(self, name: str) -> RecordTable:
        return self.where(self["phase"] == name)

    @property
    def is_scored(self) -> Column:
        return np.equal(self["error"], "").astype(bool)

    @property
    def correct(self) -> Column:
        right: Column = np.equal(self["predicted"], self["answer"]).astype(bool)
        return self.is_scored & right

    @property
    def top_is_answer(self) -> Column:
        """Whether the arg-max of the whole vocabulary is the right letter's token."""
        letter_ids = np.select(
            [self["answer"] == letter for letter in LETTERS],
            [self[f"candidates.{letter}"] for letter in LETTERS],
        )
        right: Column = np.equal(self["top_token"], letter_ids).astype(bool)
        return self.is_scored & right

    @property
    def logprobs(self) -> Column:
        """[questions, 4]; NaN where a question has no score."""
        return np.stack([self[f"logprobs.{letter}"] for letter in LETTERS], axis=1)

    @property
    def tied(self) -> Column:
        """Whether several letters have the largest of the four log-probabilities."""
        logprobs = self.logprobs
        best = logprobs == logprobs.max(axis=1, keepdims=True)
        several: Column = best.sum(axis=1) > 1
        return self.is_scored & several

    @property
    def is_not_finite(self) -> Column:
        """Whether the server answered, but not with numbers."""
        found: Column = np.array([text.startswith(NOT_FINITE) for text in self["error"]], dtype=bool)
        return found

    def requests(self) -> RecordTable:
        """One row for each request that was answered with scores: the first of its questions."""
        scored = self.where(self.is_scored)
        _, rows = np.unique(scored["request.id"], return_index=True)
        return scored.where(np.sort(rows))

    def request_sums(self, name: str) -> NDArray[np.float64]:
        """A column of the scored questions, added up over each of `requests()`, in their order."""
        scored = self.where(self.is_scored)
        ids, first, place = np.unique(scored["request.id"], return_index=True, return_inverse=True)
        sums: NDArray[np.float64] = np.zeros(len(ids))
        np.add.at(sums, place, scored[name])
        return sums[np.argsort(first)]

    def questions(self) -> list[tuple[str, int]]:
        """Subject and index of each row."""
        return list(zip(self["subject"].tolist(), self["index"].tolist(), strict=True))


def read_records(path: Path) -> RecordTable:
    """The file's whole lines. Raises InputError where it is none of this program's."""
    fields = SCHEMA.empty_table().flatten().schema
    columns = {field.name: _Building(field.type, is_unique=field.name == "request.id") for field in fields}
    try:
        for block in _blocks(path):
            table = _parse(block).flatten()
            for name, building in columns.items():
                building.add(table[name])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a file of records: {first_line_of(error)}") from None
    rows = sum(map(len, columns["index"].parts))
    built = {name: building.built() for name, building in columns.items()}
    return RecordTable(built, np.arange(rows, dtype=np.int32))


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, a few thousand at a time."""
    with path.open("rb") as file:
        begun = b""
        while data := file.read(BLOCK_BYTES):
            lines, end, begun = (begun + data).rpartition(b"\n")
            if end:
                yield lines + end


def _parse(lines: bytes) -> pa.Table:
    parsing = pa_json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
    reading = pa_json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    return pa_json.read_json(pa.py_buffer(lines), read_options=reading, parse_options=parsing)


class _Building:
    """One column, block by block."""

    def __init__(self, kind: pa.DataType, *, is_unique: bool) -> None:
        """is_unique: of text that each row has its own of."""
        self._kind = kind
        self._is_unique = is_unique
        self.parts: list[Column] = []
        self._codes: dict[str, int] = {}

    def add(self, column: pa.ChunkedArray) -> None:
        if pa.types.is_string(self._kind):
            column = column.fill_null("")
            self.parts.append(self._own(column) if self._is_unique else self._coded(column))
        else:
            filled = column.fill_null(0) if pa.types.is_integer(self._kind) else column
            self.parts.append(np.asarray(filled.to_numpy()))

    def built(self) -> Column | Words:
        is_words = pa.types.is_string(self._kind) and not self._is_unique
        empty = np.array([], dtype=np.int32 if is_words else self._kind.to_pandas_dtype())
        parts = self.parts or [empty]
        self.parts = []
        column = np.concatenate(parts)
        return Words(column, np.array(list(self._codes), dtype=object)) if is_words else column

    @staticmethod
    def _own(column: pa.ChunkedArray) -> Column:
        return np.array([text.encode() for text in column.to_pylist()])

    def _coded(self, column: pa.ChunkedArray) -> Column:
        encoded = column.combine_chunks().dictionary_encode()
        words = encoded.dictionary.to_pylist()
        codes = [self._codes.setdefault(word, len(self._codes)) for word in words]
        coded: Column = np.array(codes, dtype=np.int32)[encoded.indices.to_numpy()]
        return coded
