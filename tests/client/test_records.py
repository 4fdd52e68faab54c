"""What records.jsonl holds, and that figures get every column of it as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from client_process import client
from double import Double
from mmlu import write_benchmark
from mmlu_client.rundir.record_table import SCHEMA, read_records
from run_files import records
from tokenizer_kinds import byte_level, tokenizer_files

LETTERS = ["A", "B", "C", "D"]
# Key → the keys below it.
KEYS: dict[str, list[str]] = {
    "subject": [],
    "index": [],
    "phase": [],
    "session": [],
    "answer": [],
    "predicted": [],
    "correct": [],
    "logprobs": LETTERS,
    # A server that scores every candidate leaves none of them bounded.
    "below": [],
    "candidates": LETTERS,
    "top_token": [],
    "top_logprob": [],
    "tokens": ["logical", "computed", "shared_prefix"],
    "flops": [],
    "shots": [],
    "truncated": [],
    "server": [],
    "request": ["id", "prompts"],
    "batch": ["prompts", "padded_length", "padding_tokens"],
    "server_ns": ["tokenize", "queue", "assemble", "copy_in", "core", "copy_out", "total"],
    "client_ns": ["tokenize", "due", "ready", "sent", "received"],
    "error": [],
}
PATHS = [f"{key}.{name}" for key, below in KEYS.items() for name in below] + [
    key for key, below in KEYS.items() if not below and key != "below"
]


def value_at(line: dict[str, Any], path: str) -> Any:
    key, _, name = path.partition(".")
    return (line[key] or {}).get(name) if name else line[key]


def test_a_line_has_these_keys_in_this_order_and_no_blanks(tmp_path: Path) -> None:
    data = write_benchmark(tmp_path / "data", {"alpha": 3})
    with Double(tokenizer_files(byte_level())) as double:
        client("--url", double.url, "--data", data, "--output", tmp_path / "run")
    for line in records(tmp_path / "run"):
        assert {key: list(value) if isinstance(value, dict) else [] for key, value in line.items()} == KEYS
        assert list(line) == list(KEYS)
    (first, *_) = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    assert first == json.dumps(json.loads(first), separators=(",", ":"))


def test_the_columns_are_the_lines(tmp_path: Path) -> None:
    """Texts that recur, some that do not, and lines without scores, in more than one block of the file."""
    data = write_benchmark(tmp_path / "data", {"alpha": 5, "beta": 4})
    with Double(tokenizer_files(byte_level())) as double:
        client("--url", double.url, "--data", data, "--output", tmp_path / "run", "--bs", "2")
    scored = records(tmp_path / "run")
    lost = dict.fromkeys(KEYS) | {key: scored[0][key] for key in ("subject", "index", "phase", "session")}
    lines = [
        {**each, "index": number, "error": f"Ünknown {number}" if number % 7 == 0 else None}
        for number in range(200)
        for each in (*scored, {**lost, "tokens": dict.fromkeys(KEYS["tokens"]), "answer": "A"})
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"subject":"torn')
    assert path.stat().st_size > 2**20
    table = read_records(path)
    assert len(table) == len(lines)
    chosen = table.where(np.arange(len(lines))[::-3])
    for name in PATHS:
        column, part = table[name].tolist(), chosen[name].tolist()
        absent = {"string": "", "int64": 0, "bool": False, "double": None}[str(kind_of(name))]
        expected = [absent if (value := value_at(line, name)) is None else value for line in lines]
        assert [None if value != value else value for value in column] == expected, name
        assert [None if value != value else value for value in part] == expected[::-3], name


def kind_of(path: str) -> Any:
    key, _, name = path.partition(".")
    kind = SCHEMA.field(key).type
    return kind.field(name).type if name else kind


def test_a_file_without_a_line_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("")
    table = read_records(path)
    assert len(table) == 0
    assert table["subject"].tolist() == table["flops"].tolist() == []
    assert len(table.requests()) == 0
