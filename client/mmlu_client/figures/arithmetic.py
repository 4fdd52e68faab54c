"""Arithmetic of figures that may not have been measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide; None where one of the two is not known, or the lower one is 0."""
    return float(above / below) if above is not None and below else None


def mean(values: Any) -> float | None:
    """Compute the mean; None where there are no values."""
    return float(np.mean(values)) if len(values) else None


def longest(seconds: Iterable[float | None]) -> float | None:
    """Return the largest of some times; None where one of them is not known."""
    found = list(seconds)
    known = [each for each in found if each is not None]
    return max(known) if len(known) == len(found) else None


def gib(size: float | None) -> float | None:
    """Convert bytes to GiB."""
    return None if size is None else size / 2**30
