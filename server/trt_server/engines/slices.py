"""A batch as a CPU runs it: rows of like length together, and no more of them than fill its cores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import ALWAYS_VISIBLE, Batch, padded_length

# Products of so many rows run as fast on a CPU as those of more, and each further row of the batch costs
# padding, while attention's scores take the square of the longest.
SLICE_TOKENS = 512


@dataclass(frozen=True)
class Slice:
    """Some rows of a batch.

    Attributes:
        rows: int64 [rows], which ones.
        inputs: What the body takes of them: token_ids, positions and visible_until, int32 [rows, length], and
            asked, int32 [rows, width], the tokens that are scored, counted through all rows of the slice; a
            row with fewer of them than another has its last again.
        places: int64 [places], in which order of the batch's `scored` the slice's tokens are.
        states: int64 [places], which of the rows × width states that come out belong to them.
    """

    rows: NDArray[np.int64]
    inputs: dict[str, NDArray[np.int32]]
    places: NDArray[np.int64]
    states: NDArray[np.int64]

    @property
    def length(self) -> int:
        """How many tokens each row is run with, padding included."""
        return int(self.inputs["token_ids"].shape[1])


def slices_of(batch: Batch, length_multiple: int) -> Iterator[Slice]:
    """Yield a batch in slices.

    Args:
        batch: Its `scored` has each row's tokens together, in the order of the rows.
        length_multiple: Rows are padded to a multiple of so many tokens.
    """
    part: list[int] = []
    for row in np.argsort(-batch.lengths, kind="stable").tolist():
        if part and (len(part) + 1) * int(batch.lengths[part[0]]) > SLICE_TOKENS:
            yield _slice(batch, np.array(part), length_multiple)
            part = []
        part.append(row)
    yield _slice(batch, np.array(part), length_multiple)


def _slice(batch: Batch, rows: NDArray[np.int64], length_multiple: int) -> Slice:
    longest = int(batch.lengths[rows].max())
    length = padded_length(longest, length_multiple)
    grids = {
        name: _padded(values[rows, :longest], length, fill)
        for name, values, fill in (
            ("token_ids", batch.token_ids, 0),
            ("positions", batch.positions, 0),
            ("visible_until", batch.visible_until, ALWAYS_VISIBLE),
        )
    }
    row_of_place, token_of_place = np.divmod(batch.scored, batch.token_ids.shape[1])
    theirs = [np.flatnonzero(row_of_place == row) for row in rows]
    width = max(1, *map(len, theirs))
    asked = np.zeros((len(rows), width), np.int32)
    for number, places in enumerate(theirs):
        tokens = token_of_place[places] if len(places) else np.zeros(1, np.int32)
        asked[number] = number * length + np.pad(tokens, (0, width - len(tokens)), mode="edge")
    states = [number * width + np.arange(len(places)) for number, places in enumerate(theirs)]
    return Slice(rows, {**grids, "asked": asked}, np.concatenate(theirs), np.concatenate(states))


def _padded(values: NDArray[np.int32], length: int, fill: int) -> NDArray[np.int32]:
    padding = ((0, 0), (0, length - values.shape[1]))
    return np.pad(values, padding, constant_values=fill)
