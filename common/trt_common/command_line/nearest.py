"""The name that a misspelt one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `: did you mean NAME?` with the nearest known name, or an empty text where none is near.

    Args:
        word: the misspelt name.
        known: the names that there are.
        prefix: what all names begin with; it is left out where they are compared.
    """
    names = [name.removeprefix(prefix) for name in known]
    near = difflib.get_close_matches(word.removeprefix(prefix), names, n=1)
    return f": did you mean {prefix}{near[0]}?" if near else ""
