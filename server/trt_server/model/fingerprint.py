"""The fingerprint of a set of weights, for which only a sample of them is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from trt_server.model.tensor_file import TensorLocation

# A tensor is sampled in this many blocks; one that has no more bytes than all of them is read whole.
_BLOCK_BYTES = 4096
_BLOCKS = 16


def weights_fingerprint(weights: Mapping[str, TensorLocation]) -> str:
    """Return the SHA-256 over every tensor's name, type, shape and a sample of its content.

    All bytes of a tensor up to 64 KiB are hashed, and of a larger one 16 blocks of 4 KiB that are spread
    evenly from its first byte to its last: 7 B parameters take a fraction of a second. Training changes every
    block, so that two checkpoints of one shape differ; a few bytes changed by hand in a large tensor may go
    unnoticed.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        with tensor.file.open("rb", buffering=0) as stream:
            for start, count in _sample(tensor.length):
                stream.seek(tensor.offset + start)
                digest.update(stream.read(count))
    return digest.hexdigest()


def _sample(length: int) -> list[tuple[int, int]]:
    """Return the start and size of each hashed block of a tensor of `length` bytes."""
    if length <= _BLOCKS * _BLOCK_BYTES:
        return [(0, length)]
    last = length - _BLOCK_BYTES
    return [(last * block // (_BLOCKS - 1), _BLOCK_BYTES) for block in range(_BLOCKS)]
