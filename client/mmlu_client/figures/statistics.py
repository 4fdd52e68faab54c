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
    """An interval of a figure, both ends included."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How far the ends are apart."""
        return self.high - self.low


def wilson(successes: int, count: int) -> Interval | None:
    """Compute the 95 % score interval of a share (Wilson 1927); None where nothing was counted.

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
    """Compute the standard error of a mean of `count` yes-or-no outcomes: sqrt(p (1 - p) / n)."""
    return math.sqrt(share * (1 - share) / count) if share is not None and count else None


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test.

    Questions that only one of two got right are taken as coin tosses.
    """
    tosses = only_first + only_second
    if not tosses:
        return 1.0
    tail = sum(math.comb(tosses, heads) for heads in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**tosses))


def percentile(values: Sequence[float] | NDArray[np.float64], share: float) -> float | None:
    """Compute a percentile, linear between the two nearest ranks (numpy's default)."""
    return float(np.percentile(values, share)) if len(values) else None


def paired_difference(both: int, only_first: int, only_second: int, neither: int) -> Interval | None:
    """Compute the 95 % interval of the first's share less the second's, both of the same questions.

    Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: from Wilson's intervals of the two
    shares and their correlation. None where nothing was counted.
    """
    count = both + only_first + only_second + neither
    one, two = wilson(both + only_first, count), wilson(both + only_second, count)
    if one is None or two is None:
        return None
    p1, p2 = (both + only_first) / count, (both + only_second) / count
    phi = _correlation(both, only_first, only_second, neither)
    down = math.hypot(*_uncorrelated(p1 - one.low, two.high - p2, phi))
    up = math.hypot(*_uncorrelated(one.high - p1, p2 - two.low, phi))
    return Interval(max(-1.0, p1 - p2 - down), min(1.0, p1 - p2 + up))


def _uncorrelated(one: float, two: float, phi: float) -> tuple[float, float]:
    """Give two lengths whose squares add up to one² - 2 phi one two + two²."""
    return one - phi * two, math.sqrt(1 - phi**2) * two


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Compute Newcombe's phi, corrected for continuity."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    product = both * neither - only_first * only_second
    half = (both + only_first + only_second + neither) / 2
    corrected = max(0.0, product - half) if product >= 0 else product
    return corrected / math.sqrt(margins) if margins else 0.0
