"""A checkpoint's weights as arrays that lie in their files."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_server.model.weights import Weights


class MappedWeights:
    """Maps the files of the weights, whose pages the system reads as they are used."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._maps: dict[Path, mmap.mmap] = {}

    def array(self, name: str) -> NDArray[Any]:
        """Return a tensor, which is not copied. What is written to it stays in this process."""
        tensor = self._weights[name]
        if tensor.file not in self._maps:
            with tensor.file.open("rb") as stream:
                self._maps[tensor.file] = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        flat = np.frombuffer(self._maps[tensor.file], tensor.dtype, tensor.elements, tensor.offset)
        return flat.reshape(tensor.shape)

    def drop_pages(self) -> None:
        """Give back the memory that the files' pages take here: what is read again comes from the system."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)
