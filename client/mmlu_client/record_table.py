"""records.jsonl as columns: what every figure is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as pa_json

from mmlu_client.errors import InputError
from mmlu_client.question import LETTERS

Column = NDArray[Any]

SERVER_STAGES = ("tokenize", "queue", "assemble", "copy_in", "core", "copy_out", "total")
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
        "server": pa.string(),
        "request": pa.struct({"id": pa.string(), "prompts": pa.int64()}),
        "batch": _struct(pa.int64(), "prompts", "padded_length"),
        "server_ns": _struct(pa.int64(), *SERVER_STAGES),
        "client_ns": _struct(pa.int64(), *CLIENT_TIMES),
        "error": pa.string(),
    }
)


class RecordTable:
    """One row a question. Columns are named as in the file, nested ones with a dot; no number is 0."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self["index"])

    def where(self, rows: Column) -> RecordTable:
        """rows: a mask or row numbers."""
        return RecordTable({name: column[rows] for name, column in self._columns.items()})

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

    def requests(self) -> RecordTable:
        """One row for each request that was answered with scores: the first of its questions."""
        scored = self.where(self.is_scored)
        _, rows = np.unique(scored["request.id"], return_index=True)
        return scored.where(np.sort(rows))

    def questions(self) -> list[tuple[str, int]]:
        """Subject and index of each row."""
        return list(zip(self["subject"].tolist(), self["index"].tolist(), strict=True))


def read_records(path: Path) -> RecordTable:
    """The file's whole lines. Raises InputError where it is none of this program's."""
    try:
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        table = _parse(data) if data else SCHEMA.empty_table()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a file of records: {str(error).splitlines()[0]}") from None
    flat = table.flatten()
    return RecordTable({name: _column(flat[name]) for name in flat.column_names})


def _parse(data: bytes) -> pa.Table:
    options = pa_json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore")
    return pa_json.read_json(pa.py_buffer(data), parse_options=options)


def _column(column: pa.ChunkedArray) -> Column:
    if pa.types.is_string(column.type):
        return np.asarray(column.fill_null("").to_pylist(), dtype=object)
    if pa.types.is_integer(column.type):
        column = column.fill_null(0)
    return np.asarray(column.to_numpy())
