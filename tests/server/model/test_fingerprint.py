"""The fingerprint of weights: every byte counts, and a large file is read for it once."""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from trt_server.model.files.fingerprint import weights_fingerprint
from trt_server.model.files.tensor_file import read_tensor_file, tensor_file_header

LARGE, SMALL = 90 * 2**20, 300_000


def write_weights(path: Path, size: int) -> Path:
    """Two tensors of `size` bytes together; what is not written is zeros, which take no room."""
    header = tensor_file_header({"a": (size // 8,), "b": (size // 8,)}, "float32")
    with path.open("wb") as stream:
        stream.write(header + np.arange(1024, dtype=np.float32).tobytes())
        stream.truncate(len(header) + size)
    return path


def fingerprint(path: Path) -> str:
    return weights_fingerprint(read_tensor_file(path))


def change(path: Path, place: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        before = stream.read(1)
        stream.seek(place)
        stream.write(bytes([before[0] ^ 1]))


def read_bytes() -> int:
    """What this process has read from files so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_one_bit_anywhere_is_told(tmp_path: Path, cache: Path, size: int) -> None:  # noqa: ARG001
    path = write_weights(tmp_path / "w.safetensors", size)
    end = path.stat().st_size
    first = end - size
    places = [first, end - 1, *random.Random(0).sample(range(first + 1, end - 1), 4)]
    found = [fingerprint(path)]
    for place in places:
        change(path, place)
        found.append(fingerprint(path))
    assert len(set(found)) == len(found)
    for place in places:
        change(path, place)
    assert fingerprint(path) == found[0]


def test_a_large_file_is_read_once_and_again_when_it_changed(tmp_path: Path, cache: Path) -> None:
    path = write_weights(tmp_path / "w.safetensors", LARGE)
    before = read_bytes()
    found = fingerprint(path)
    after_first = read_bytes()
    assert after_first - before >= LARGE
    assert fingerprint(path) == found
    after_second = read_bytes()
    assert after_second - after_first < 2**20
    # Its times are set back as a careful copy does it.
    state = path.stat()
    change(path, LARGE // 2)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint(path) != found
    (kept,) = (cache / "fingerprints").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["", "[]", "{", '{"state": {}}'])
def test_a_damaged_record_is_as_if_there_were_none(tmp_path: Path, cache: Path, content: str) -> None:
    path = write_weights(tmp_path / "w.safetensors", LARGE)
    found = fingerprint(path)
    (kept,) = (cache / "fingerprints").iterdir()
    kept.write_text(content)
    assert fingerprint(path) == found
    assert json.loads(kept.read_text())["digests"]


def test_a_small_file_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    fingerprint(write_weights(tmp_path / "w.safetensors", SMALL))
    assert not cache.exists()


def test_a_copy_of_a_large_file_has_the_same(tmp_path: Path, cache: Path) -> None:  # noqa: ARG001
    path = write_weights(tmp_path / "w.safetensors", LARGE)
    assert fingerprint(Path(shutil.copyfile(path, tmp_path / "copy.safetensors"))) == fingerprint(path)
