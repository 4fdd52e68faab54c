"""Items that are asked again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, overload

Each = TypeVar("Each")


class Repeated(Sequence[Each]):
    """A sequence that begins anew after its last element, without holding any element twice."""

    def __init__(self, elements: Sequence[Each], length: int) -> None:
        """Repeat these elements, of which there is one at least.

        Args:
            elements: what is repeated.
            length: how many elements there are then.
        """
        self._elements = elements
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Each: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Each]: ...

    def __getitem__(self, place: int | slice) -> Each | Sequence[Each]:
        if isinstance(place, slice):
            return [self._elements[each % len(self._elements)] for each in range(self._length)[place]]
        return self._elements[range(self._length)[place] % len(self._elements)]
