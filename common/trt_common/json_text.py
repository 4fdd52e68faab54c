"""JSON from files that others wrote, whose odd values would fail far from where they are read."""

from __future__ import annotations

import json
from typing import Any

# What a model's own files nest, with room: the deepest have less than ten levels.
MOST_LEVELS = 64


def parse_json(content: bytes | str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: It is no JSON, is nested too deeply, or holds a text that UTF-8 has no bytes for. The
            error's text says why.
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        # Python's own bound, told in words for programmers.
        raise ValueError("it holds a number of thousands of digits") from None
    _check(found)
    return found


def _check(found: Any) -> None:
    level: list[Any] = [found]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                _check_texts(value)
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            else:
                _check_texts((value,))
        if not inner:
            return
        level = inner
    raise ValueError("it is nested too deeply")


def _check_texts(values: Any) -> None:
    for value in values:
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"it holds {value!a}, half of a character") from None
