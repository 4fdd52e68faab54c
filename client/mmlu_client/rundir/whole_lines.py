"""Files of whole lines, whatever a killed client, or a full disk, makes of the last one."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

from mmlu_client.errors import RunError

_BLOCK_BYTES = 2**16


def append_lines(file: FileIO, lines: str) -> None:
    """Append all of the lines, or none of them.

    Raises:
        OSError: they cannot be written; the file is as it was.
    """
    start = os.fstat(file.fileno()).st_size
    data = memoryview(lines.encode())
    try:
        while data:
            data = data[file.write(data) :]
    except OSError:
        os.ftruncate(file.fileno(), start)
        raise


def cut_torn_line(path: Path) -> None:
    """Cut off what stands behind the last line's end.

    Raises:
        OSError: the file cannot be read or cut.
    """
    os.truncate(path, _whole_bytes(path))


def reopen_log(path: Path, *, keep: bool) -> None:
    """Prepare a file of whole lines that an earlier start left.

    Args:
        path: the file.
        keep: whether its whole lines are kept and appended to; otherwise it is deleted.

    Raises:
        RunError: it cannot be written.
    """
    if not path.exists():
        return
    try:
        if keep:
            cut_torn_line(path)
        else:
            path.unlink()
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def _whole_bytes(path: Path) -> int:
    """Count the bytes up to the last line's end, which is included."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while size:
            start = max(0, size - _BLOCK_BYTES)
            file.seek(start)
            end = file.read(size - start).rfind(b"\n")
            if end >= 0:
                return start + end + 1
            size = start
    return 0
