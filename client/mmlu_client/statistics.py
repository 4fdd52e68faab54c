"""What a figure's error is, and whether two figures differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The normal law's quantile for 95 %.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


def wilson(successes: int, count: int) -> Interval | None:
    """The 95 % score interval of a share (Wilson 1927); None where nothing was counted.

    It keeps to 0 … 1 and holds its level for few questions and extreme shares, where p ± 1.96 errors fails.
    """
    if not count:
        return None
    share, z2 = successes / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # The share is in it, whatever the last digit of a share of 0 or 1 comes to.
    return Interval(min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def standard_error(share: float | None, count: int) -> float | None:
    """Of a mean of `count` yes-or-no outcomes: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count) if share is not None and count else None


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test: questions that only one of two got right, as coin tosses."""
    tosses = only_first + only_second
    if not tosses:
        return 1.0
    tail = sum(math.comb(tosses, heads) for heads in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**tosses))


def percentile(values: Sequence[float] | NDArray[np.float64], share: float) -> float | None:
    """Linear between the two nearest ranks (numpy's default)."""
    return float(np.percentile(values, share)) if len(values) else None


def ratio_interval(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Interval | None:
    """95 % of a ratio of two means of independent samples, by the delta method on its logarithm."""
    if len(numerator) < 2 or len(denominator) < 2 or numerator.mean() <= 0 or denominator.mean() <= 0:
        return None
    middle = math.log(numerator.mean() / denominator.mean())
    variance = sum(
        float(values.var(ddof=1)) / len(values) / float(values.mean()) ** 2
        for values in (numerator, denominator)
    )
    half = Z95 * math.sqrt(variance)
    return Interval(math.exp(middle - half), math.exp(middle + half))
