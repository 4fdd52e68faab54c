"""Local files that a cell's flags name, on their way to the machines that run it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmlu_client.campaign.cell import Cell
from mmlu_client.campaign.file.errors import CampaignFileError

# Flags whose files travel, where this machine has them.
TRAVEL = ("data", "include-path", "tokenizer", "model-config")
MOST_BYTES = 512 * 2**20
# The folder of a worker that holds them; the same path on every machine, since manifests have it.
INPUTS = Path("inputs")


@dataclass(frozen=True)
class Input:
    """A file or a folder that travels.

    Attributes:
        flag: the flag that names it.
        digest: of its content, in hexadecimal digits.
        name: the last part of its path.
        packed: what holds it as a tar file; a reference of Ray's object store.
    """

    flag: str
    digest: str
    name: str
    packed: Any

    @property
    def path(self) -> Path:
        """Where it lies, relative to the worker's folder."""
        return INPUTS / self.digest / self.name


class Inputs:
    """The local files that cells name, each packed once."""

    def __init__(self, store: Callable[[bytes], Any]) -> None:
        """Prepare to pack.

        Args:
            store: puts a tar file where the machines can get it, and returns the reference to it.
        """
        self._store = store
        self._packed: dict[str, tuple[str, Any]] = {}

    def of(self, cell: Cell, file: Path) -> list[Input]:
        """Return what travels with a cell.

        Args:
            cell: whose flags name it.
            file: the campaign's, for messages.

        Raises:
            CampaignFileError: it cannot be read, or is too large to travel.
        """
        found = []
        for flag in TRAVEL:
            value = cell.flags.get(flag)
            # A campaign's file makes the paths that are there absolute; anything else is a name.
            if not isinstance(value, str) or not (path := Path(value)).is_absolute() or not path.exists():
                continue
            if value not in self._packed:
                try:
                    size = _size(path)
                    if size > MOST_BYTES:
                        raise CampaignFileError(
                            file,
                            cell.line,
                            f"cell {cell.name}: --{flag} {path} is {size / 2**20:.0f} MiB, and "
                            f"{MOST_BYTES // 2**20} MiB at most are sent to the machines of a cluster: put "
                            "it on each of them outside this path, and name it there",
                        )
                    content = _pack(path)
                except OSError as error:
                    raise CampaignFileError(
                        file, cell.line, f"cell {cell.name}: cannot read --{flag} {path}: {error.strerror}"
                    ) from None
                self._packed[value] = hashlib.sha256(content).hexdigest()[:16], self._store(content)
            found.append(Input(flag, self._packed[value][0], path.name, self._packed[value][1]))
        return found


def with_inputs(cell: Cell, inputs: list[Input]) -> Cell:
    """Return a cell whose flags name its inputs where a worker has them."""
    return replace(cell, flags={**cell.flags, **{each.flag: str(each.path) for each in inputs}})


def unpack(folder: Path, inputs: list[Input], fetch: Callable[[Any], bytes]) -> None:
    """Unpack the inputs that this folder has not yet.

    Args:
        folder: the worker's.
        inputs: of a cell.
        fetch: returns the tar file of a reference.

    Raises:
        OSError: they cannot be written.
    """
    for each in inputs:
        if not (folder / each.path).exists():
            with tarfile.open(fileobj=io.BytesIO(fetch(each.packed))) as archive:
                archive.extractall((folder / each.path).parent, filter="data")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def _pack(path: Path) -> bytes:
    """Return a tar file of a file or a folder, equal for equal content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
        archive.add(path, path.name, filter=_nameless)
    return stream.getvalue()


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave away whose a file is, and when it was written."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry
