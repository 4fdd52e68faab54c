"""The fingerprint of a set of weights: a hash of all their bytes, which is computed once and kept."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trt_server.cache.kept_digests import KeptDigests
from trt_server.devices.cores import usable_cores
from trt_server.model.files.tensor_file import TensorLocation
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)

# A tensor's digest is that of its blocks' digests, so that several threads share even one large tensor.
_BLOCK_BYTES = 16 * 1024 * 1024
# What a thread reads at a time: small enough to stay in a core's cache until it is hashed.
_PIECE_BYTES = 1024 * 1024
# What is hashed in a few hundredths of a second is not worth keeping.
_KEPT_FROM_BYTES = 64 * 1024 * 1024


def weights_fingerprint(weights: Mapping[str, TensorLocation], *, keep: bool = True) -> str:
    """Return the SHA-256 over every tensor's name, type, shape and content.

    Every byte counts. Several threads read and hash; the digests of a file from 64 MiB on are kept in the
    cache beside its size, times and inode, and are computed again where one of these has changed.

    Args:
        weights: The tensors, by name.
        keep: Whether digests are kept, and taken from where they were.

    Raises:
        OSError: A file cannot be read.
    """
    by_file: dict[Path, set[tuple[int, int]]] = defaultdict(set)
    for tensor in weights.values():
        by_file[tensor.file].add((tensor.offset, tensor.length))
    digests = {file: _digests(file, places, keep=keep) for file, places in by_file.items()}
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape} ".encode())
        digest.update(digests[tensor.file][tensor.offset, tensor.length].encode() + b"\n")
    return digest.hexdigest()


def _digests(file: Path, places: set[tuple[int, int]], *, keep: bool) -> dict[tuple[int, int], str]:
    """Return the digest of each place of a file, which is an offset and a length in bytes."""
    size = sum(length for _, length in places)
    if not keep or size < _KEPT_FROM_BYTES:
        return _computed(file, places)
    kept = KeptDigests(file)
    known = kept.read()
    if missing := places - known.keys():
        log.info("hashing %s of weights in %s, once", readable_bytes(size), file)
        start = time.perf_counter()
        known = _computed(file, missing)
        log.info("hashed %s in %.1f s", file, time.perf_counter() - start)
        kept.add(known)
        known = {**kept.read(), **known}
    return known


def _computed(file: Path, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
    with file.open("rb", buffering=0) as stream, ThreadPoolExecutor(usable_cores()) as threads:
        number = stream.fileno()
        blocks = {
            (offset, length): [
                threads.submit(_block, number, offset + start, min(_BLOCK_BYTES, length - start))
                for start in range(0, length, _BLOCK_BYTES)
            ]
            for offset, length in places
        }
        return {
            place: hashlib.sha256(b"".join(block.result() for block in each)).hexdigest()
            for place, each in blocks.items()
        }


def _block(number: int, start: int, count: int) -> bytes:
    """Return the SHA-256 of `count` bytes of an open file from `start` on."""
    digest, piece = hashlib.sha256(), memoryview(bytearray(min(count, _PIECE_BYTES)))
    while count:
        read = os.preadv(number, [piece[: min(count, len(piece))]], start)
        if not read:
            raise OSError(f"{count} bytes are missing from byte {start} on: the file became shorter")
        digest.update(piece[:read])
        start, count = start + read, count - read
    return digest.digest()
