"""What files hold, read again when one of them changes."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Content = TypeVar("Content")


class Reread(Generic[Content]):
    """What files hold; `now` reads them again where one has changed since.

    Where a change leaves what cannot be read or used, what the files held before it stays in force until they
    are changed once more. May be used in several threads.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], Content],
        on_change: Callable[[Exception | None], None],
    ) -> None:
        """Read the files for the first time.

        Args:
            paths: The files; a symbolic link counts as what it leads to.
            read: Reads them, and raises an exception where they cannot be used.
            on_change: Called after a change was read, with None, or with what `read` raised.

        Raises:
            Exception: What `read` raises.
        """
        self._paths = paths
        self._read = read
        self._on_change = on_change
        self._lock = threading.Lock()
        # Before they are read, so that a change in the meantime counts as one.
        self._seen = self._states()
        self._content = read()

    @property
    def now(self) -> Content:
        """What the files hold now, or what they held when they could be used last."""
        with self._lock:
            if (states := self._states()) != self._seen:
                self._seen = states
                self._read_again()
            return self._content

    def _read_again(self) -> None:
        try:
            self._content = self._read()
        except Exception as error:
            self._on_change(error)
        else:
            self._on_change(None)

    def _states(self) -> list[tuple[int, ...] | None]:
        return [_state(path) for path in self._paths]


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what differs where a file was replaced or written to; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        # A pipe gives what it holds once; its times change as it is read.
        return found.st_dev, found.st_ino
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
