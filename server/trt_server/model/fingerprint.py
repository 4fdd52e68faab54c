"""What tells one set of weights from another without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from trt_server.model.tensor_file import TensorLocation

# A tensor is sampled in blocks; what fits into all of them is read whole.
_BLOCK_BYTES = 4096
_BLOCKS = 16


def weights_fingerprint(weights: Mapping[str, TensorLocation]) -> str:
    """SHA-256 over every tensor's name, type, shape and content, the content sampled.

    Of a tensor up to 64 KiB all bytes are hashed, of a larger one 16 blocks of 4 KiB, spread evenly from its
    first byte to its last: 7 B parameters take a fraction of a second. Training touches every block, so two
    checkpoints of one shape differ; single bytes changed by hand in a large tensor may go unseen.
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
    """Start and size of each block of a tensor of `length` bytes that goes into its fingerprint."""
    if length <= _BLOCKS * _BLOCK_BYTES:
        return [(0, length)]
    last = length - _BLOCK_BYTES
    return [(last * block // (_BLOCKS - 1), _BLOCK_BYTES) for block in range(_BLOCKS)]
