"""The cores that this process may use: those it may be put on, and what control groups leave of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from trt_server.devices.control_groups import ROOT, ControlGroup, control_groups


@dataclass(frozen=True)
class _Quota:
    """cores: of time at a time. group: the kernel's number of the control group that has it."""

    cores: float
    group: int


def usable_cores(root: Path = ROOT) -> int:
    """At least one; a part of one counts whole. root: of the file tree with proc and sys."""
    allowed, quota = len(_allowed_cores()), _least_quota(root)
    return allowed if quota is None else max(1, min(allowed, ceil(quota.cores)))


def part_of_the_cores(root: Path = ROOT) -> str | None:
    """What this process may use, where that is not all: cores as taskset writes them, a group's quota.

    Two processes with one part share it; those of two groups with a quota each do not.
    """
    cores, quota = _allowed_cores(), _least_quota(root)
    bounds = [] if len(cores) == os.cpu_count() else [_as_ranges(cores)]
    if quota is not None and quota.cores < len(cores):
        bounds.append(f"{quota.cores:g} at a time in control group {quota.group}")
    return "; ".join(bounds) or None


def _allowed_cores() -> list[int]:
    """In rising order; where the system does not tell (macOS), all there are."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _as_ranges(cores: Sequence[int]) -> str:
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
    """Microseconds of time a period, and of the period; 0 of time: it has no quota."""
    quota, period = (group.read("cpu.max") or "max 1").split()
    return 0 if quota == "max" else int(quota), int(period)


def _version_1(group: ControlGroup) -> tuple[int, int]:
    """As _version_2; -1 where there is no quota."""
    quota, period = (group.read(f"cpu.cfs_{name}_us") or "0" for name in ("quota", "period"))
    return int(quota), int(period)
