"""A checkpoint: a folder whose configuration and weights were read and fit each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_server.errors import StartError
from trt_server.model.geometry import Geometry, read_geometry
from trt_server.model.weights import Weights, check_weights, read_weights

# A tensor is sampled in blocks; what fits into all of them is read whole.
_BLOCK_BYTES = 4096
_BLOCKS = 16


@dataclass(frozen=True)
class Checkpoint:
    """config: config.json as it stands. weights: the tensors the geometry needs, none else.

    fingerprint: equal for the same configuration and weights, on any machine and however they are sharded.
    """

    folder: Path
    config: Mapping[str, Any]
    geometry: Geometry
    weights: Weights
    fingerprint: str

    @property
    def architecture(self) -> str:
        """The class that config.json names ("LlamaForCausalLM"); its model_type where it names none."""
        architectures = self.config.get("architectures")
        return str(architectures[0]) if architectures else self.geometry.family


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint in `folder`: its configuration and the headers of its weights.

    Raises StartError, in one line, for whatever is not there, not whole or not supported.
    """
    if not folder.is_dir():
        raise StartError(f"{folder} is not a folder; name a checkpoint folder with config.json in it")
    try:
        config = _read_config(folder / "config.json")
        geometry = read_geometry(config)
        weights = check_weights(folder, read_weights(folder), geometry)
        fingerprint = _fingerprint(config, weights)
    except OSError as error:
        raise StartError(f"{folder} cannot be read: {error}") from error
    return Checkpoint(folder, config, geometry, weights, fingerprint)


def weights_fingerprint(weights: Weights) -> str:
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


def _fingerprint(config: Mapping[str, Any], weights: Weights) -> str:
    canonical = json.dumps(config, sort_keys=True)
    return hashlib.sha256(f"{canonical}\n{weights_fingerprint(weights)}".encode()).hexdigest()


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise StartError(f"{path.parent} holds no config.json; name a Hugging Face checkpoint folder")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise StartError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise StartError(f"{path} holds no JSON object; download it again")
    return config
