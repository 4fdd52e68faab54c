"""Memory that is lent out in pieces."""

from __future__ import annotations

from random import Random

import pytest
from trt_server.engines.tensorrt.run.block_allocator import BlockAllocator


def test_the_first_gap_that_is_large_enough_is_taken() -> None:
    allocator = BlockAllocator(100)
    assert [allocator.allocate(40), allocator.allocate(30), allocator.allocate(30)] == [0, 40, 70]
    assert allocator.allocate(1) is None
    allocator.free(40)
    assert allocator.allocate(31) is None
    assert [allocator.allocate(10), allocator.allocate(20)] == [40, 50]


def test_what_was_not_taken_cannot_be_given_back() -> None:
    allocator = BlockAllocator(100)
    allocator.allocate(10)
    with pytest.raises(KeyError):
        allocator.free(5)


def test_pieces_never_overlap_and_everything_comes_back() -> None:
    random, allocator = Random(1), BlockAllocator(1000)
    pieces: dict[int, int] = {}
    for _ in range(2000):
        size = random.randrange(1, 200)
        if (offset := allocator.allocate(size)) is None:
            allocator.free(offset := random.choice(list(pieces)))
            del pieces[offset]
            continue
        assert offset + size <= 1000
        assert all(offset + size <= start or start + taken <= offset for start, taken in pieces.items())
        pieces[offset] = size
    for offset in pieces:
        allocator.free(offset)
    assert allocator.allocate(1000) == 0
