"""What has changed in a folder on one machine, and how it comes into the folder on another."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trt_common.private_file import PART, make_private_folder, open_private, replace_file

from mmlu_client.errors import NotWrittenError

# Files that only grow, but for a torn last line that is cut off: of these the new bytes are sent.
GROWING = (".jsonl", ".log")
# So many bytes before the new ones are compared with what was sent.
TAIL_BYTES = 256


@dataclass(frozen=True)
class FileChange:
    """What a file has become.

    Attributes:
        name: its path in the folder.
        start: what stands before this byte stays; None: the file is written anew, in one step.
        content: what follows there, to the file's end.
    """

    name: str
    start: int | None
    content: bytes


@dataclass(frozen=True)
class Changes:
    """What has changed in a folder.

    Attributes:
        files: in the order in which they are to be written.
        gone: the files that are there no more.
    """

    files: tuple[FileChange, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Seen:
    """A file as it was told last: what tells its content apart, its size, and its last bytes."""

    mark: tuple[int, int, int]
    size: int
    tail: bytes


class WatchedFolder:
    """Tells what changes in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take what the folder holds now as known."""
        self._folder = folder
        self._seen: dict[str, _Seen] = {}
        self.changes()

    def changes(self) -> Changes:
        """Return what has changed since the last call.

        Files that grow are read after the others, and come first: what a manifest says of records is never
        ahead of them.
        """
        names = sorted(_names(self._folder), key=lambda name: name.endswith(GROWING))
        found = [change for name in names if (change := self._change(name)) is not None]
        gone = tuple(name for name in self._seen if name not in names)
        for name in gone:
            del self._seen[name]
        return Changes(tuple(reversed(found)), gone)

    def _change(self, name: str) -> FileChange | None:
        before = self._seen.get(name)
        try:
            with (self._folder / name).open("rb") as stream:
                status = os.fstat(stream.fileno())
                mark = (status.st_ino, status.st_size, status.st_mtime_ns)
                if before is not None and before.mark == mark:
                    return None
                start = 0
                if before is not None and name.endswith(GROWING) and status.st_size >= before.size:
                    stream.seek(before.size - len(before.tail))
                    if stream.read(len(before.tail)) == before.tail:
                        start = before.size
                stream.seek(start)
                content = stream.read()
        except FileNotFoundError:
            return None
        kept = before.tail if before is not None and start else b""
        self._seen[name] = _Seen(mark, start + len(content), (kept + content)[-TAIL_BYTES:])
        if not content and start:
            return None
        return FileChange(name, start or None, content)


def write_changes(folder: Path, changes: Changes) -> None:
    """Write what has changed elsewhere into this folder.

    Raises:
        NotWrittenError: it cannot be written.
    """
    for change in changes.files:
        path = folder / change.name
        try:
            make_private_folder(path.parent)
            if change.start is None:
                replace_file(path, change.content)
            else:
                _write_from(path, change.start, change.content)
        except OSError as error:
            raise NotWrittenError(path, error.strerror) from None
    for name in changes.gone:
        (folder / name).unlink(missing_ok=True)


def append(path: Path, content: bytes) -> None:
    """Add bytes to a file's end.

    Raises:
        NotWrittenError: they cannot be written.
    """
    if not content:
        return
    try:
        make_private_folder(path.parent)
        with open(path, "ab", opener=open_private) as stream:
            stream.write(content)
    except OSError as error:
        raise NotWrittenError(path, error.strerror) from None


def files_of(folder: Path, without: Collection[str]) -> dict[str, bytes]:
    """Return the content of a folder's files by their paths in it, but for those of these names.

    Raises:
        OSError: one cannot be read.
    """
    return {name: (folder / name).read_bytes() for name in _names(folder) if name not in without}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder that holds these files.

    Raises:
        OSError: it cannot be made.
    """
    make_private_folder(folder)
    for name, content in files.items():
        make_private_folder((folder / name).parent)
        replace_file(folder / name, content)


def _write_from(path: Path, start: int, content: bytes) -> None:
    with open(path, "r+b", opener=open_private) as stream:
        stream.seek(start)
        stream.write(content)
        stream.truncate()


def _names(folder: Path) -> Iterator[str]:
    """Yield the paths of a folder's files in it, but for those that are being written in one step."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(PART):
            yield path.relative_to(folder).as_posix()
