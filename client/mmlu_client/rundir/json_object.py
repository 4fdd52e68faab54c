"""JSON values → dataclasses, by the types of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class JsonError(ValueError):
    """A value is not of its field's type; the message names the field."""


def read_as(kind: Any, value: Any, name: str = "") -> Any:
    """Read a JSON value as this type.

    Keys without a field are left out; a field with a default may be absent.

    Args:
        kind: a dataclass, tuple[X, …], dict[str, X], a Literal, a union, a plain type or Any.
        value: what the JSON parser gave.
        name: what messages call the value.

    Raises:
        JsonError: the value is not of this type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _object(kind, value, name)
    if origin in (Union, UnionType):
        return _either(inner, value, name)
    if origin is tuple and isinstance(value, list):
        return tuple(read_as(inner[0], each, f"{name}[{place}]") for place, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: read_as(inner[1], each, f"{name}.{key}") for key, each in value.items()}
    if origin is Literal:
        return _one_of(inner, value, name)
    plain = (int, float) if kind is float else kind
    if origin is not None or not isinstance(value, plain):
        raise JsonError(f"{name} is {value!r:.80}")
    return value


def _one_of(allowed: tuple[Any, ...], value: Any, name: str) -> Any:
    if value not in allowed:
        raise JsonError(f"{name} is {value!r}, and none of {', '.join(map(repr, allowed))}")
    return value


def _object(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise JsonError(f"{name or 'it'} is no object")
    hints, prefix = _hints(kind), f"{name}." if name else ""
    known = [field.name for field in fields(kind) if field.name in value]
    found = {each: read_as(hints[each], value[each], f"{prefix}{each}") for each in known}
    try:
        return kind(**found)
    except TypeError:  # a field without a default has no value
        missing = next(field.name for field in fields(kind) if field.name not in value)
        raise JsonError(f"{prefix}{missing} is missing") from None


def _either(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    first, *others = [kind for kind in kinds if kind is not NoneType]
    if not others:
        return read_as(first, value, name)
    try:
        return read_as(first, value, name)
    except JsonError:
        return _either(tuple(others), value, name)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
