"""The control groups that this process is in: where the kernel shows their limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class ControlGroup:
    """folder: with its files. version: 1 or 2, which name them differently."""

    folder: Path
    version: int

    def read(self, name: str) -> str:
        """Empty where there is no such file, or it is not ours to read."""
        return read_or_nothing(self.folder / name)


def control_groups(controller: str, root: Path) -> Iterator[ControlGroup]:
    """Those that may limit what `controller` ("cpu", "memory") counts: the process's own, those around them.

    In a container only its own can be seen. root: of the file tree with proc and sys.
    """
    for line in read_or_nothing(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        names = group.strip("/").split("/")
        for depth in range(len(names) + 1):
            yield ControlGroup(mount.joinpath(*names[:depth]), 1 if controllers else 2)


def read_or_nothing(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
