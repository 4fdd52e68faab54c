"""What is added to a file that grows."""

from __future__ import annotations

from pathlib import Path


class Tail:
    """Reads a file from where it was read last. What cannot be read now is read the next time.

    Attributes:
        path: the file, which may not be there yet.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        """Begin to read.

        Args:
            path: the file.
            start: what stands before this byte is left out.
        """
        self.path = path
        self._read = start

    def new(self) -> bytes:
        """Return what has been added since the last call."""
        content = self._unread()
        self._read += len(content)
        return content

    def new_lines(self) -> list[bytes]:
        """Return the lines that were added since the last call, without the last one where it is not whole.

        Where a file's last line was torn, and is cut off and written again, it is read once.
        """
        content = self._unread()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.split(b"\n")[:-1]

    def _unread(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                return stream.read()
        except OSError:
            return b""
