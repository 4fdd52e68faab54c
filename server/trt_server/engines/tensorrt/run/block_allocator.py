"""A first-fit allocator for the blocks of one region of memory."""

from __future__ import annotations


class BlockAllocator:
    """Allocates blocks of a region of `size` bytes in the first gap that is large enough."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Offset → size of each allocated block.
        self._blocks: dict[int, int] = {}

    def allocate(self, size: int) -> int | None:
        """Return the offset of a block of `size` bytes; None where no gap is large enough."""
        ends = [0, *(offset + taken for offset, taken in sorted(self._blocks.items()))]
        starts = [*sorted(self._blocks), self._size]
        for end, start in zip(ends, starts, strict=True):
            if start - end >= size:
                self._blocks[end] = size
                return end
        return None

    def free(self, offset: int) -> None:
        """Free the block at `offset`.

        Raises:
            KeyError: No block is allocated there.
        """
        del self._blocks[offset]
