"""Files and folders that are their owner's alone, and links that are not followed where one is written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

# The suffix of a file that is being written, or was when its process was killed.
PART = ".part"


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, which only its owner may read where it is made; for the `opener` of `open`.

    Args:
        path: the file.
        flags: those of `os.open`.

    Raises:
        OSError: it cannot be opened, or is a symbolic link.
    """
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step, so that a reader never sees half of it.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    # A name that nobody can have put a link under.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with open(part, "xb", opener=open_private) as stream:
            stream.write(content)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
