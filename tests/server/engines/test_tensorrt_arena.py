"""Memory that is lent out in pieces."""

from __future__ import annotations

from random import Random

import pytest
from trt_server.engines.tensorrt.arena import Arena


def test_the_first_gap_that_is_large_enough_is_taken() -> None:
    arena = Arena(100)
    assert [arena.take(40), arena.take(30), arena.take(30)] == [0, 40, 70]
    assert arena.take(1) is None
    arena.give_back(40)
    assert arena.take(31) is None
    assert [arena.take(10), arena.take(20)] == [40, 50]


def test_what_was_not_taken_cannot_be_given_back() -> None:
    arena = Arena(100)
    arena.take(10)
    with pytest.raises(KeyError):
        arena.give_back(5)


def test_pieces_never_overlap_and_everything_comes_back() -> None:
    random, arena = Random(1), Arena(1000)
    pieces: dict[int, int] = {}
    for _ in range(2000):
        size = random.randrange(1, 200)
        if (offset := arena.take(size)) is None:
            arena.give_back(offset := random.choice(list(pieces)))
            del pieces[offset]
            continue
        assert offset + size <= 1000
        assert all(offset + size <= start or start + taken <= offset for start, taken in pieces.items())
        pieces[offset] = size
    for offset in pieces:
        arena.give_back(offset)
    assert arena.take(1000) == 0
