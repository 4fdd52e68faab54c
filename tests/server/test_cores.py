"""How many cores a process may use, by its affinity and in trees of control groups as kernels show them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trt_server.devices.cores import part_of_the_cores, usable_cores

HERE = len(os.sched_getaffinity(0))
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu"
NO_CONTAINER = "0::/user.slice/user-1000.slice/session-1.scope\n"
OLD_CONTAINER = "5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def old(folder: str, quota: int) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


TREES = {
    "no control groups": ("", {}, HERE),
    "none with a quota": (NO_CONTAINER, {f"{V2}/user.slice/cpu.max": "max 100000\n"}, HERE),
    "a container's own": ("0::/\n", {f"{V2}/cpu.max": "100000 100000\n"}, 1),
    "a part of a core": ("0::/\n", {f"{V2}/cpu.max": "20000 100000\n"}, 1),
    "a core and a part": ("0::/\n", {f"{V2}/cpu.max": "150000 100000\n"}, min(HERE, 2)),
    "more than there are": ("0::/\n", {f"{V2}/cpu.max": "99900000 100000\n"}, HERE),
    "a group around ours": (
        NO_CONTAINER,
        {
            f"{V2}/user.slice/cpu.max": "50000 50000\n",
            f"{V2}/user.slice/user-1000.slice/cpu.max": "99900000 100000\n",
            f"{V2}/user.slice/user-1000.slice/session-1.scope/cpu.max": "max 100000\n",
        },
        1,
    ),
    "version 1": ("4:cpu,cpuacct:/batch\n", old(V1, -1) | old(f"{V1}/batch", 100_000), 1),
    "version 1, none": ("4:cpu,cpuacct:/batch\n", old(V1, -1) | old(f"{V1}/batch", -1), HERE),
    "version 1, in a container that sees its name outside": (OLD_CONTAINER, old(V1, 100_000), 1),
}


@pytest.mark.parametrize(("groups", "files", "expected"), TREES.values(), ids=TREES)
def test_quota(tmp_path: Path, groups: str, files: dict[str, str], expected: int) -> None:
    assert usable_cores(tree(tmp_path, groups, files)) == expected


def test_groups_with_a_quota_have_a_part_each(tmp_path: Path) -> None:
    """By which a client knows whether two servers share one peak."""
    quota = {f"{V2}/cpu.max": "50000 100000\n"}
    one, two = (tree(tmp_path / name, "0::/\n", quota) for name in ("one", "two"))
    parts = [part_of_the_cores(root) for root in (one, one, two)]
    assert parts[0] == parts[1] != parts[2]
    assert "0.5 at a time" in str(parts[0])


def test_a_quota_beyond_the_cores_is_no_part(tmp_path: Path) -> None:
    without, with_one = tmp_path / "without", tmp_path / "with"
    tree(without, "0::/\n", {})
    tree(with_one, "0::/\n", {f"{V2}/cpu.max": "99900000 100000\n"})
    assert part_of_the_cores(with_one) == part_of_the_cores(without)


@pytest.mark.skipif(HERE < 2, reason="needs a core to leave out")
def test_affinity(tmp_path: Path) -> None:
    program = (
        "import os; from trt_server.devices.cores import usable_cores, part_of_the_cores\n"
        "first = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {first})\n"
        "from pathlib import Path; nothing = Path('nowhere')\n"
        "assert usable_cores(nothing) == 1\n"
        "assert part_of_the_cores(nothing) == str(first)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=120)
