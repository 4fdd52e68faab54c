"""Files that change while a program runs, as editors, operators and Kubernetes change them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import replace
from trt_common.access.reread import Reread


class Reader:
    """Reads a file, and keeps account of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reads = 0
        self.changes: list[Exception | None] = []
        self.content = Reread([path], self._read, self.changes.append)

    def _read(self) -> str:
        self.reads += 1
        content = self._path.read_text()
        if content == "bad":
            raise ValueError(content)
        return content


def write(path: Path, content: str) -> None:
    path.write_text(content)


def put(path: Path, content: str) -> None:
    replace(path, content.encode())


def turn_link(path: Path, content: str) -> None:
    """As Kubernetes changes a mounted secret: the link is turned to another folder, the names stay."""
    folder = path.parent.parent / content
    folder.mkdir()
    (folder / path.name).write_text(content)
    (path.parent.parent / "new").symlink_to(folder.name)
    (path.parent.parent / "new").replace(path.parent)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """In a folder that is a link."""
    (tmp_path / "first").mkdir()
    (tmp_path / "current").symlink_to("first")
    path = tmp_path / "current" / "file"
    path.write_text("one")
    return path


@pytest.mark.parametrize("change", [write, put, turn_link])
def test_a_change_counts_at_once_and_is_read_once(file: Path, change: Callable[[Path, str], None]) -> None:
    reader = Reader(file)
    assert [reader.content.now, reader.content.now] == ["one", "one"]
    # As long as before, and as old.
    before = file.stat()
    change(file, "two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [reader.content.now, reader.content.now] == ["two", "two"]
    assert (reader.reads, reader.changes) == (2, [None])


def test_what_cannot_be_used_leaves_what_was_there(file: Path) -> None:
    reader = Reader(file)
    write(file, "bad")
    assert [reader.content.now, reader.content.now] == ["one", "one"]
    file.unlink()
    assert reader.content.now == "one"
    write(file, "two")
    assert reader.content.now == "two"
    assert [type(change) for change in reader.changes] == [ValueError, FileNotFoundError, type(None)]


def test_the_first_time_it_has_to_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "file")
    write(tmp_path / "file", "bad")
    with pytest.raises(ValueError, match="bad"):
        Reader(tmp_path / "file")
