"""Fields of config.json, each read as the type that it must have; another type is refused by name.

A missing field has its default. A field that is null has no default: the caller decides what null means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trt_common.model.errors import ConfigError
from trt_common.one_line import shortened

Fields = Mapping[str, Any]

# What 32 bits hold. No real model comes near it.
MOST_SIZE = 2**31 - 1
# Of a factor, a base or an epsilon: beyond these logarithms and quotients of several leave what floats hold.
LEAST_NUMBER, MOST_NUMBER = 1e-30, 1e30
# Of a value, where an error names it.
MOST_SHOWN_BYTES = 200


def size(fields: Fields, name: str, default: int | None = None, most: int = MOST_SIZE) -> int:
    """Return a positive whole number.

    Raises:
        ConfigError: The field is something else, or larger than `most`.
    """
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(name, value, "a positive whole number")
    if value > most:
        raise _refused(name, value, f"a whole number up to {most}")
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
    if not LEAST_NUMBER <= value <= MOST_NUMBER:
        raise _refused(name, value, f"a number from {LEAST_NUMBER:g} to {MOST_NUMBER:g}")
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


def names(fields: Fields, name: str) -> list[str]:
    """Return a list of names; none where the field is null or missing.

    Raises:
        ConfigError: The field is something else.
    """
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _refused(name, value, "a list of names")
    return value


def _refused(name: str, value: object, wanted: str) -> ConfigError:
    return ConfigError(f"config.json: {name} is {shortened(repr(value), MOST_SHOWN_BYTES)}, not {wanted}")
