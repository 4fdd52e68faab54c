"""Fields of config.json, each read as the type that it must have; another type is refused by name.

A missing field has its default. A field that is null has no default: the caller decides what null means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trt_common.model.errors import ConfigError

Fields = Mapping[str, Any]


def size(fields: Fields, name: str, default: int | None = None) -> int:
    """Return a positive whole number.

    Raises:
        ConfigError: The field is something else.
    """
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(name, value, "a positive whole number")
    return value


def optional_size(fields: Fields, name: str) -> int | None:
    """Return a positive whole number; None where the field is null or missing.

    Raises:
        ConfigError: The field is something else.
    """
    return None if fields.get(name) is None else size(fields, name)


def count(fields: Fields, name: str) -> int:
    """Return a whole number that is 0 or larger.

    Raises:
        ConfigError: The field is something else.
    """
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _refused(name, value, "a whole number")
    return value


def number(fields: Fields, name: str, default: float | None = None) -> float:
    """Return a positive number.

    Raises:
        ConfigError: The field is something else.
    """
    value = fields.get(name, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _refused(name, value, "a positive number")
    return float(value)


def optional_number(fields: Fields, name: str) -> float | None:
    """Return a positive number; None where the field is null or missing.

    Raises:
        ConfigError: The field is something else.
    """
    return None if fields.get(name) is None else number(fields, name)


def flag(fields: Fields, name: str, default: bool = False) -> bool:
    """Return true or false.

    Raises:
        ConfigError: The field is something else.
    """
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise _refused(name, value, "true or false")
    return value


def _refused(name: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"config.json: {name} is {value!r}, not {wanted}")
