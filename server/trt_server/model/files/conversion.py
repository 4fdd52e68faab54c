"""Weights in a type that the engine accepts, converted once into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_server.cache.folder import cached_folder
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.fingerprint import weights_fingerprint
from trt_server.model.files.tensor_file import (
    ITEM_SIZES,
    TensorLocation,
    read_tensor_file,
    tensor_file_header,
)
from trt_server.model.files.weight_files import SINGLE_FILE
from trt_server.model.files.weights import Weights

# Conversion has this much of a tensor in memory at a time: 32 MiB of float32.
_CHUNK_ELEMENTS = 8 * 1024 * 1024
_FINGERPRINT = "fingerprint"


def weights_as(checkpoint: Checkpoint, dtype: str) -> Weights:
    """Return the checkpoint's weights as `dtype`, "float32" or "float16".

    Where all tensors have that type already, these are the checkpoint's own files. Otherwise all tensors are
    written into the cache once, a chunk at a time. The cached copy is found by the checkpoint's fingerprint
    and its files' sizes and times, and is written again where its own fingerprint is no longer right.

    Raises:
        StartError: A weight is too large for float16, or the cache cannot be written.
    """
    weights = checkpoint.weights
    if all(tensor.dtype == dtype for tensor in weights.values()):
        return weights
    folder = cached_folder(
        "weights",
        _key(checkpoint, dtype),
        f"weights of {checkpoint.folder} as {dtype}",
        sum(tensor.elements for tensor in weights.values()) * ITEM_SIZES[dtype],
        lambda folder: _convert(weights, dtype, folder),
        _is_whole,
    )
    return read_tensor_file(folder / SINGLE_FILE)


def _key(checkpoint: Checkpoint, dtype: str) -> str:
    digest = hashlib.sha256(checkpoint.fingerprint.encode())
    for file in sorted({tensor.file for tensor in checkpoint.weights.values()}):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return f"{digest.hexdigest()[:32]}-{dtype}"


def _convert(weights: Weights, dtype: str, folder: Path) -> None:
    path = folder / SINGLE_FILE
    with path.open("wb") as stream:
        stream.write(tensor_file_header({name: tensor.shape for name, tensor in weights.items()}, dtype))
        for name, tensor in weights.items():
            for chunk in _converted(name, tensor, dtype):
                chunk.tofile(stream)
    # Not kept: the folder gets another name when it is finished.
    fingerprint = weights_fingerprint(read_tensor_file(path), keep=False)
    (folder / _FINGERPRINT).write_text(fingerprint, encoding="utf-8")


def _converted(name: str, tensor: TensorLocation, dtype: str) -> Iterator[NDArray[Any]]:
    for start in range(0, tensor.elements, _CHUNK_ELEMENTS):
        chunk = tensor.values(start, _CHUNK_ELEMENTS)
        if dtype == "float16" and not np.all(np.abs(chunk) <= np.finfo(np.float16).max):
            raise StartError(f"{tensor.file}: {name} holds values beyond float16; use --precision fp32")
        yield chunk.astype(dtype, copy=False)


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / _FINGERPRINT).read_text(encoding="utf-8") == weights_fingerprint(
            read_tensor_file(folder / SINGLE_FILE)
        )
    except (OSError, StartError, ValueError):
        return False
