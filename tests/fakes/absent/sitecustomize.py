"""Packages that ABSENT_PACKAGES names, separated by commas, are as if they were not installed."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from typing import Any

ABSENT = frozenset(os.environ["ABSENT_PACKAGES"].split(","))
find_spec = PathFinder.find_spec


def find_present(name: str, *arguments: Any, **named: Any) -> Any:
    """The module's spec; None for one of an absent package."""
    return None if name.partition(".")[0] in ABSENT else find_spec(name, *arguments, **named)


PathFinder.find_spec = staticmethod(find_present)  # type: ignore[assignment,method-assign]
