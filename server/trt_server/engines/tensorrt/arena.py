"""One block of memory, lent out in pieces."""

from __future__ import annotations


class Arena:
    """Pieces of a block of `size` bytes, known by their offsets; the first gap that is large enough goes."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Offset → size of each piece that is out.
        self._pieces: dict[int, int] = {}

    def take(self, size: int) -> int | None:
        """The offset of a piece; None where no gap is large enough."""
        ends = [0, *(offset + taken for offset, taken in sorted(self._pieces.items()))]
        starts = [*sorted(self._pieces), self._size]
        for end, start in zip(ends, starts, strict=True):
            if start - end >= size:
                self._pieces[end] = size
                return end
        return None

    def give_back(self, offset: int) -> None:
        """Raises KeyError for what was not taken."""
        del self._pieces[offset]
