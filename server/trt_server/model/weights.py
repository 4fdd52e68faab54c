"""A checkpoint folder's weights: one index over all its safetensors files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from trt_server.errors import StartError
from trt_server.model.geometry import Geometry
from trt_server.model.tensor_file import ITEM_SIZES, TensorLocation, read_tensor_file

Weights = Mapping[str, TensorLocation]

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"

_OTHER_FORMATS = ("*.bin", "*.pth", "*.pt", "*.gguf", "*.h5", "*.msgpack")
# Written by old versions of transformers; it follows from the configuration.
_IGNORED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
_LAYER_NUMBER = re.compile(r"model\.layers\.(\d+)\.")


def read_weights(folder: Path) -> dict[str, TensorLocation]:
    """Name → place of every tensor of the checkpoint in `folder`, in one file or in shards.

    Raises StartError for other formats, missing shards and files that are not what they should be.
    """
    if (folder / SHARD_INDEX).exists():
        return _read_shards(folder)
    if (folder / SINGLE_FILE).exists():
        return read_tensor_file(folder / SINGLE_FILE)
    raise _no_safetensors(folder)


def check_weights(folder: Path, weights: Weights, geometry: Geometry) -> dict[str, TensorLocation]:
    """Those of `weights` that the geometry needs. Raises StartError where they do not fit each other."""
    needed = geometry.tensor_shapes()
    missing = [name for name in needed if name not in weights]
    if missing:
        raise StartError(
            f"{folder} lacks {len(missing)} of the {len(needed)} tensors its config.json asks for, "
            f"{missing[0]} first: the checkpoint is partial or of another architecture"
        )
    for name, shape in needed.items():
        tensor = weights[name]
        if tensor.shape != shape:
            raise StartError(
                f"{tensor.file}: {name} has shape {list(tensor.shape)}, config.json asks for {list(shape)}"
            )
        if tensor.dtype not in ITEM_SIZES:
            raise StartError(
                f"{tensor.file}: {name} is {tensor.dtype}; only {', '.join(ITEM_SIZES)} weights are supported"
            )
    for name in weights:
        _refuse_unknown(folder, name, geometry)
    return {name: weights[name] for name in needed}


def _read_shards(folder: Path) -> dict[str, TensorLocation]:
    shards = _shard_names(folder / SHARD_INDEX)
    absent = [name for name in shards if not (folder / name).exists()]
    if absent:
        raise StartError(
            f"{folder} lacks {len(absent)} of its {len(shards)} weight files, {absent[0]} first; "
            "finish its download"
        )
    weights: dict[str, TensorLocation] = {}
    for name in shards:
        weights |= read_tensor_file(folder / name)
    return weights


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        names = []
    # A path that leads out of the folder is never a shard.
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise StartError(f"{index} is not a shard index, or is damaged; download it again")
    return names


def _no_safetensors(folder: Path) -> StartError:
    others = sorted(path.name for pattern in _OTHER_FORMATS for path in folder.glob(pattern))
    if others:
        return StartError(
            f"{folder} holds its weights as {others[0]}, not as safetensors; "
            "load it with transformers where you trust it, and write it with save_pretrained"
        )
    return StartError(f"{folder} holds no weights: {SINGLE_FILE} or {SHARD_INDEX} should be there")


def _refuse_unknown(folder: Path, name: str, geometry: Geometry) -> None:
    """A tensor in a layer that the graph would pass over (a bias, a scale) would change the answers."""
    layer = _LAYER_NUMBER.match(name)
    if layer is None or int(layer[1]) >= geometry.layers or _IGNORED.fullmatch(name):
        return
    if name not in geometry.tensor_shapes():
        raise StartError(
            f"{folder} holds {name}, which its config.json does not account for; it is not supported"
        )
