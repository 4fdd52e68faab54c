"""Files and folders that are their owner's alone, and what stands in a file's place and is none.

Links are not followed where a file is written. Pipes and devices are neither opened nor replaced: who names
`/dev/null` wants nothing written, and not the machine's device turned into a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

# The suffix of a file that is being written, or was when its process was killed.
PART = ".part"
# What errors say of a pipe, a socket or a device.
NO_REGULAR_FILE = "it is no regular file"


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
        OSError: it cannot be opened, or is a symbolic link or no regular file.
    """
    return open_regular(path, flags | os.O_NOFOLLOW)


def open_regular(path: str | Path, flags: int) -> int:
    """Open a file, or the one that a link names, as `open_private` does.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    # The other end of a pipe would be waited for.
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
            raise OSError(errno.EINVAL, NO_REGULAR_FILE) from None
        raise
    try:
        _check_mode(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def check_replaceable(path: Path) -> None:
    """Check that nothing but a regular file, or a link to one, would be replaced at this path.

    Raises:
        OSError: a folder, a pipe, a socket or a device is there, or a link to one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing is there that could be harmed
    _check_mode(mode)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file in one step, so that a reader never sees half of it.

    Raises:
        OSError: it cannot be written, or is no regular file; it is as it was.
    """
    check_replaceable(path)
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


def _check_mode(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, NO_REGULAR_FILE)
