"""One safetensors file: the place of each tensor in it, and the header that such a file begins with."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trt_common.json_text import parse_json
from trt_common.one_line import one_line

from trt_server.errors import StartError

# safetensors' name → numpy's name, for the types of weights that are supported.
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}

# The format's own limit; a longer header means that this is not a safetensors file.
_MAX_HEADER_BYTES = 100_000_000
_ALIGNMENT = 64


@dataclass(frozen=True)
class TensorLocation:
    """The place of a tensor: `length` bytes of a file from byte `offset` on, row-major and little-endian.

    Attributes:
        file: The file.
        offset: The first byte.
        length: The number of bytes.
        dtype: "float32", "float16" or "bfloat16", or safetensors' name of any other type.
        shape: The size of each axis.
    """

    file: Path
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]

    def read(self, start: int, count: int) -> NDArray[Any]:
        """Return elements `start` to `start + count` of the flat tensor; bfloat16 as uint16 bit patterns."""
        item = ITEM_SIZES[self.dtype]
        stored = np.dtype(np.uint16 if self.dtype == "bfloat16" else self.dtype)
        return np.fromfile(self.file, stored, count, offset=self.offset + start * item)

    def values(self, start: int, count: int) -> NDArray[Any]:
        """Return up to `count` elements of the flat tensor from `start` on; bfloat16 as float32."""
        stored = self.read(start, min(count, self.elements - start))
        if self.dtype == "bfloat16":
            # A bfloat16 is the upper half of a float32.
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored

    @property
    def elements(self) -> int:
        """The number of elements."""
        return prod(self.shape)


def read_tensor_file(path: Path) -> dict[str, TensorLocation]:
    """Return the place of every tensor in a safetensors file, by name; links are resolved.

    Format: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, data).

    Raises:
        StartError: The file is not safetensors, is cut short, or contradicts itself.
        OSError: The file cannot be read.
    """
    file = path.resolve()
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(512)
        _refuse_other_content(path, start)
        header_bytes = struct.unpack("<Q", start[:8])[0]
        if header_bytes > _MAX_HEADER_BYTES:
            raise StartError(f"{path} is not a safetensors file; download it again")
        data_start = 8 + header_bytes
        if data_start > size:
            raise _cut_short(path, size, data_start)
        stream.seek(8)
        header = _parse_header(path, stream.read(header_bytes))
    tensors = {
        name: _locate(path, file, data_start, name, entry)
        for name, entry in header.items()
        if name != "__metadata__"
    }
    end = max((tensor.offset + tensor.length for tensor in tensors.values()), default=data_start)
    if end > size:
        raise _cut_short(path, size, end)
    return tensors


def _refuse_other_content(path: Path, start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        raise StartError(f"{path} is a Git LFS pointer, not the weights; run 'git lfs pull' in its folder")
    if start.lstrip()[:1] == b"<":
        raise StartError(
            f"{path} is a web page, not the weights; download it again, logged in if it is gated"
        )
    if len(start) < 8:
        raise _cut_short(path, len(start), 8)


def _cut_short(path: Path, size: int, needed: int) -> StartError:
    return StartError(
        f"{path} is cut short: {size:,} of at least {needed:,} bytes are there; finish or repeat its download"
    )


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise StartError(
            f"{path} is not a safetensors file, or its header is damaged ({one_line(error)}); "
            "download it again"
        ) from None
    if not isinstance(header, dict):
        raise StartError(f"{path} is not a safetensors file, or its header is damaged; download it again")
    return header


def _locate(path: Path, file: Path, data_start: int, name: str, entry: Any) -> TensorLocation:
    try:
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        dtype = DTYPES.get(entry["dtype"], str(entry["dtype"]))
        sane = all(map(_is_size, (begin, end, *shape))) and begin <= end
    except (KeyError, TypeError, ValueError):
        sane = False
    if not sane:
        raise StartError(f"{path}: the header's entry for {name} is damaged; download the file again")
    if dtype in ITEM_SIZES and prod(shape) * ITEM_SIZES[dtype] != end - begin:
        raise StartError(
            f"{path}: the header gives {name} a size that does not fit its shape; download it again"
        )
    return TensorLocation(file, data_start + begin, end - begin, dtype, shape)


def _is_size(value: Any) -> bool:
    """Return whether a value is a whole number that a file's size or an array's may be."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def tensor_file_header(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> bytes:
    """Return the header of a safetensors file with tensors of one dtype, packed in the order of `shapes`.

    It is padded with spaces, as the format allows, so that the data begin at a multiple of 64 bytes.
    """
    stored = {name: key for key, name in DTYPES.items()}[dtype]
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + prod(shape) * ITEM_SIZES[dtype]
        header[name] = {"dtype": stored, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text
