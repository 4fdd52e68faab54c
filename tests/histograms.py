"""What Prometheus' histogram_quantile makes of a scraped histogram."""

from __future__ import annotations

from collections.abc import Mapping


def histogram_quantile(share: float, buckets: Mapping[float, float]) -> float:
    """Linear within the bucket that the rank falls into.

    buckets: upper bound → how many are at it or below, +Inf among them, the rank's own bucket above 0.
    """
    bounds = sorted(buckets)
    rank = share * buckets[bounds[-1]]
    place = next(number for number, bound in enumerate(bounds) if buckets[bound] >= rank)
    low, high = bounds[place - 1], bounds[place]
    below = buckets[low]
    return low + (high - low) * (rank - below) / (buckets[high] - below)
