"""Arithmetic of figures that may not have been measured."""

from __future__ import annotations

from typing import Any

import numpy as np


def ratio(above: float | None, below: float | None) -> float | None:
    """Divide; None where one of the two is not known, or the lower one is 0."""
    return float(above / below) if above is not None and below else None


def mean(values: Any) -> float | None:
    """Compute the mean; None where there are no values."""
    return float(np.mean(values)) if len(values) else None


def gib(size: float | None) -> float | None:
    """Convert bytes to GiB."""
    return None if size is None else size / 2**30
