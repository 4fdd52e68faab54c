"""Files with an object of JSON in each line → dataclasses; what is none of them is left out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from trt_common.private_file import open_regular

from mmlu_client.errors import InputError
from mmlu_client.rundir.json_object import read_as
from mmlu_client.service.plausible import impossible_number

Read = TypeVar("Read")


def read_json_lines(path: Path, kind: type[Read]) -> tuple[list[Read], int]:
    """Read the objects in a file's whole lines.

    Args:
        path: the file.
        kind: a dataclass with a field for each key.

    Returns:
        Every object, and how many lines hold something else: half of a line, what a disk left of it, or
        numbers that nobody can have measured. There are none of both where there is no such file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb", opener=open_regular) as file:
            lines = [line for line in file if line.endswith(b"\n")]
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    found = [each for line in lines if (each := _read(line, kind)) is not None]
    return found, len(lines) - len(found)


def _read(line: bytes, kind: type[Read]) -> Read | None:
    try:
        found: Read = read_as(kind, json.loads(line))
    except (ValueError, RecursionError):
        return None
    return found if impossible_number(asdict(found)) is None else None  # type: ignore[call-overload]
