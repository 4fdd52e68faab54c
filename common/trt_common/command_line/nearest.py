"""What a misspelt name was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """`: did you mean NAME?` with the nearest of `known`; empty where none is near.

    prefix: what all names begin with, which says nothing of how near they are.
    """
    names = [name.removeprefix(prefix) for name in known]
    near = difflib.get_close_matches(word.removeprefix(prefix), names, n=1)
    return f": did you mean {prefix}{near[0]}?" if near else ""
