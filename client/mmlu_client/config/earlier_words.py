"""The flags of an earlier start, as its folder has them → the words of a command line that set them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Given once for each of their values.
REPEATED = ("goodput", "label")


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that set these flags.

    Args:
        flags: by their names with underscores, as JSON holds them, which may be of any type.
    """
    return [word for name, value in flags.items() for word in _words(name, value)]


def _words(name: str, value: Any) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        yield flag
    elif name in REPEATED and isinstance(value, list):
        for each in value:
            yield f"{flag}={_joined('=', each)}"
    elif name == "sweep" and isinstance(value, list):
        yield f"{flag}={_joined('=', [_joined(',', each) for each in value])}"
    elif isinstance(value, list):
        yield from (flag, *map(str, value))
    elif value is not None and value is not False:
        # Together: a value may begin with a dash.
        yield f"{flag}={value}"


def _joined(by: str, value: Any) -> str:
    return by.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
