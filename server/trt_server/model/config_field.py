"""A field of config.json as the type that it has to have; what is of another is refused by name.

A field that is left out has its default. One that is null has none: what null means, the caller says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trt_server.errors import StartError

Fields = Mapping[str, Any]


def size(fields: Fields, name: str, default: int | None = None) -> int:
    """A positive whole number. Raises StartError."""
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(name, value, "a positive whole number")
    return value


def optional_size(fields: Fields, name: str) -> int | None:
    """None where it is null or left out. Raises StartError."""
    return None if fields.get(name) is None else size(fields, name)


def count(fields: Fields, name: str) -> int:
    """A whole number, 0 included. Raises StartError."""
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refused(name, value, "a whole number")
    return value


def number(fields: Fields, name: str, default: float | None = None) -> float:
    """A positive number. Raises StartError."""
    value = fields.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _refused(name, value, "a positive number")
    return float(value)


def optional_number(fields: Fields, name: str) -> float | None:
    """None where it is null or left out. Raises StartError."""
    return None if fields.get(name) is None else number(fields, name)


def flag(fields: Fields, name: str, default: bool = False) -> bool:
    """Raises StartError."""
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise _refused(name, value, "true or false")
    return value


def _refused(name: str, value: object, wanted: str) -> StartError:
    return StartError(f"config.json: {name} is {value!r}, not {wanted}")
