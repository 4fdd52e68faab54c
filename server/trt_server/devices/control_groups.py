"""The control groups that this process is in, and the files in which the kernel shows their limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class ControlGroup:
    """One control group.

    Attributes:
        folder: The one that has the group's files.
        version: 1 or 2; they name the files differently.
    """

    folder: Path
    version: int

    def read(self, name: str) -> str:
        """Return the content of one of its files; empty where there is none or it may not be read."""
        return read_or_nothing(self.folder / name)


def control_groups(controller: str, root: Path) -> Iterator[ControlGroup]:
    """Yield the groups that may limit this process: its own, and those that its own are part of.

    In a container only the container's own group can be seen.

    Args:
        controller: What is limited: "cpu" or "memory".
        root: The folder that has proc and sys.
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
    """Return a file's text; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
