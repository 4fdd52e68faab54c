"""What is read of JSON files, and what is said of files that hold something else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from mmlu_client.campaign.cell_state import CELL, CellState, read_cell_state, write_cell_state
from mmlu_client.errors import InputError
from mmlu_client.rundir.json_file import UnreadableError, read_json_file


@dataclass(frozen=True)
class Held:
    version: int
    name: str


WRONG = {
    "no JSON": ("{", "is not a thing: Expecting property name"),
    "nested too deeply": ("[" * 10**6, "is not a thing: "),
    "no object": ("[]", "is not a thing: it is no object; make it again"),
    "a key is missing": ('{"version": 2}', "is not a thing: name is missing; make it again"),
    "a wrong value": ('{"version": 2, "name": 3}', "is not a thing: name is 3; make it again"),
    "another version": (
        '{"version": 1, "name": 3}',
        "was written by another version of mmlu-client: read it with that one",
    ),
    "no version": ('{"name": "x"}', "is not a thing: version is missing; make it again"),
}


def read(path: Path) -> Held:
    return read_json_file(path, Held, "a thing", version=("version", 2), remedy="make it again")


def test_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "held.json"
    path.write_text(json.dumps({"version": 2, "name": "é", "more": None}))
    assert read(path) == Held(2, "é")


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_something_else_is_refused_in_words(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "held.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path} {message}")


def test_what_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as refused:
        read(tmp_path / "held.json")
    assert str(refused.value) == f"cannot read {tmp_path / 'held.json'}: No such file or directory"


def test_a_cells_error_that_names_a_file_without_utf_8_is_read_again(tmp_path: Path) -> None:
    assert read_cell_state(tmp_path) is None
    begun = CellState(definition={}, state="waiting").begun("here")
    state = begun.ended("failed", 1, "cannot read \udcff.csv")
    write_cell_state(tmp_path, state)
    assert (tmp_path / CELL).is_file()
    assert read_cell_state(tmp_path) == state
