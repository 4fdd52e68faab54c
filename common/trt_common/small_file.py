"""Files of keys, tokens and certificates, which may be pipes, devices or large by mistake."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

# Certificates and tokens have some kilobytes.
MOST_BYTES = 1024 * 1024
# A pipe that is not written and closed by then is given up.
WAIT_SECONDS = 5.0
_PIECE_BYTES = 65536


def read_small_file(path: Path, *, takes_pipes: bool = True) -> bytes:
    """Return what a file holds, or what a pipe gives until its writers have closed it, as `<(command)` does.

    Args:
        path: The file.
        takes_pipes: Whether it may be a pipe.

    Raises:
        OSError: It cannot be read, holds more than MOST_BYTES, is something else, or is a pipe that is not
            written and closed within WAIT_SECONDS. `filename` and `strerror` are set.
    """
    # Before it is opened, which does something to some devices.
    found = path.stat()
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev:
        return b""
    _check_kind(path, found.st_mode, takes_pipes)
    # A pipe without a writer would be waited for, and no signal taken meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(descriptor).st_mode
        _check_kind(path, kind, takes_pipes)
        if stat.S_ISFIFO(kind):
            return _read_pipe(path, descriptor)
        return _read_file(path, descriptor)
    finally:
        os.close(descriptor)


def _check_kind(path: Path, kind: int, takes_pipes: bool) -> None:
    if stat.S_ISDIR(kind):
        raise _error(path, errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(kind) or (takes_pipes and stat.S_ISFIFO(kind))):
        raise _error(path, errno.EINVAL, f"it is no file{' and no pipe' if takes_pipes else ''}")


def _read_file(path: Path, descriptor: int) -> bytes:
    content = bytearray()
    while piece := os.read(descriptor, _PIECE_BYTES):
        _add(path, content, piece)
    return bytes(content)


def _read_pipe(path: Path, descriptor: int) -> bytes:
    end = time.monotonic() + WAIT_SECONDS
    content = bytearray()
    has_hung_up = False
    while True:
        try:
            piece = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            pass
        else:
            _add(path, content, piece)
            # Nothing is also read where no writer has come yet.
            if not piece and (content or has_hung_up):
                return bytes(content)
            if piece:
                continue
        has_hung_up = _wait(path, descriptor, end)


def _wait(path: Path, descriptor: int, end: float) -> bool:
    """Wait until a pipe can be read; return whether its writers are gone.

    Raises:
        OSError: It cannot be read by `end`, on the clock of time.monotonic.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    for _, events in poll.poll(max(0.0, end - time.monotonic()) * 1000):
        return bool(events & select.POLLHUP)
    raise _error(path, errno.ETIMEDOUT, f"it is a pipe that was not written and closed in {WAIT_SECONDS:g} s")


def _add(path: Path, content: bytearray, piece: bytes) -> None:
    content += piece
    if len(content) > MOST_BYTES:
        raise _error(path, errno.EFBIG, f"it holds more than {MOST_BYTES} bytes")


def _error(path: Path, number: int, why: str) -> OSError:
    return OSError(number, why, str(path))
