"""The peak rate of a device, and the measurements that it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class PeakMeasurements:
    """How often a peak was measured, and the lowest of the rates.

    Attributes:
        least_flops_per_second: The lowest measured rate, in FLOP/s.
        contended: Other processes used the cores in every measurement, so that even the highest rate is too
            low.
    """

    count: int
    least_flops_per_second: float
    contended: bool

    def joined(self, other: PeakMeasurements) -> PeakMeasurements:
        """Return the measurements of both."""
        return PeakMeasurements(
            self.count + other.count,
            min(self.least_flops_per_second, other.least_flops_per_second),
            self.contended and other.contended,
        )


@dataclass(frozen=True)
class PeakFlops:
    """The device's peak rate of dense products, which MFU is relative to, and its source.

    Attributes:
        flops_per_second: The peak, in FLOP/s.
        source: Where the number comes from, in words.
        measured: The measurements it is taken from; None for one that was not measured, or was measured once
            at start-up.
    """

    flops_per_second: float
    source: str
    measured: PeakMeasurements | None = None

    def joined(self, other: PeakFlops) -> PeakFlops:
        """Return the larger of two peaks, with the measurements of both."""
        larger = max(self, other, key=lambda peak: peak.flops_per_second)
        if self.measured is None or other.measured is None:
            return larger
        return replace(larger, measured=self.measured.joined(other.measured))


def given_peak(flops_per_second: float) -> PeakFlops:
    """Return the peak that a person has given, in FLOP/s."""
    return PeakFlops(flops_per_second, "given with --peak-flops")
