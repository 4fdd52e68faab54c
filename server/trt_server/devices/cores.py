"""The cores that this process may use, by its affinity and by the quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from trt_server.devices.control_groups import ROOT, ControlGroup, control_groups


@dataclass(frozen=True)
class _Quota:
    """A limit on processor time.

    Attributes:
        cores: Seconds of processor time a second.
        group: The kernel's number of the control group that has the quota.
    """

    cores: float
    group: int


def usable_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may use: at least one, and a part of a core counts as one.

    Args:
        root: The folder that has proc and sys.
    """
    allowed, quota = len(_allowed_cores()), _least_quota(root)
    return allowed if quota is None else max(1, min(allowed, ceil(quota.cores)))


def part_of_the_cores(root: Path = ROOT) -> str | None:
    """Return which cores this process may use, and its control group's quota; None: all, without a quota.

    Two processes with the same text share their cores. Those of two groups that have a quota each do not: the
    text names the group.

    Args:
        root: The folder that has proc and sys.
    """
    cores, quota = _allowed_cores(), _least_quota(root)
    bounds = [] if len(cores) == os.cpu_count() else [_as_ranges(cores)]
    if quota is not None and quota.cores < len(cores):
        bounds.append(f"{quota.cores:g} at a time in control group {quota.group}")
    return "; ".join(bounds) or None


def _allowed_cores() -> list[int]:
    """Return them in rising order; all there are where the system does not tell (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _as_ranges(cores: Sequence[int]) -> str:
    """Return the cores as taskset writes them: 0-3,8."""
    starts = [core for core in cores if core - 1 not in cores]
    ends = [core for core in cores if core + 1 not in cores]
    pairs = zip(starts, ends, strict=True)
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in pairs)


def _least_quota(root: Path) -> _Quota | None:
    return min(_quotas(root), key=lambda quota: quota.cores, default=None)


def _quotas(root: Path) -> Iterator[_Quota]:
    for group in control_groups("cpu", root):
        quota, period = _version_1(group) if group.version == 1 else _version_2(group)
        if quota > 0:
            yield _Quota(quota / period, group.folder.stat().st_ino)


def _version_2(group: ControlGroup) -> tuple[int, int]:
    """Return the quota and its period, in microseconds; a quota of 0 or less is none."""
    quota, period = (group.read("cpu.max") or "max 1").split()
    return 0 if quota == "max" else int(quota), int(period)


def _version_1(group: ControlGroup) -> tuple[int, int]:
    """Return the quota and its period, in microseconds; a quota of 0 or less is none."""
    quota, period = (group.read(f"cpu.cfs_{name}_us") or "0" for name in ("quota", "period"))
    return int(quota), int(period)
