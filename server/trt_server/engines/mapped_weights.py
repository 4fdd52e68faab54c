"""A checkpoint's weights as arrays that lie in their files."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_server.model.files.weights import Weights

# Python has no name for it. Linux would not map a file that is larger than the memory, where its pages could
# all be written to, unless it is told to set nothing aside for that.
_MAP_NORESERVE = 0x4000


class MappedWeights:
    """Maps the files of the weights, whose pages the system reads as they are used."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._maps: dict[Path, mmap.mmap] = {}

    def array(self, name: str) -> NDArray[Any]:
        """Return a tensor, which is not copied. What is written to it stays in this process."""
        tensor = self._weights[name]
        if tensor.file not in self._maps:
            self._maps[tensor.file] = _mapped(tensor.file)
        flat = np.frombuffer(self._maps[tensor.file], tensor.dtype, tensor.elements, tensor.offset)
        return flat.reshape(tensor.shape)

    def drop_pages(self) -> None:
        """Give back the memory that the files' pages take here: what is read again comes from the system."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)


def _mapped(file: Path) -> mmap.mmap:
    """Map a file so that what is written stays here: OpenVINO takes no arrays that are read-only."""
    with file.open("rb") as stream:
        if sys.platform == "linux":
            flags, access = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            return mmap.mmap(stream.fileno(), 0, flags=flags, prot=access)
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
