"""The share of a device's peak that floating-point operations make."""

from __future__ import annotations


def mfu(flops: float, core_seconds: float, peak_flops_per_second: float) -> float:
    """Return the model FLOPs utilization: the work done over what the device could have done in that time.

    It is that of Chowdhery et al. 2022, "PaLM", arXiv 2204.02311, appendix B.
    """
    return flops / (core_seconds * peak_flops_per_second)
