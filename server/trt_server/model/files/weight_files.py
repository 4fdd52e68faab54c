"""The files of a checkpoint folder that hold its weights, and the choice where there are several sets."""

from __future__ import annotations

import fnmatch
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trt_server.errors import StartError
from trt_server.model.files.fingerprint import weights_fingerprint
from trt_server.model.files.json_file import read_json_object
from trt_server.model.files.tensor_file import TensorLocation, read_tensor_file

log = logging.getLogger(__name__)

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"

_SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_INDEX_SUFFIX = ".safetensors.index.json"
_OTHER_FORMATS = ("*.bin", "*.pth", "*.pt", "*.h5", "*.msgpack")
# The field of config.json that names the file of weights where it has none of the usual names.
_OWN_NAME = "transformers_weights"


@dataclass(frozen=True)
class WeightFiles:
    """A set of files that together hold all weights.

    Attributes:
        name: The name of the set in messages.
        files: The files in the order in which they are read; of two tensors with one name the later one
            counts.
        tensors: The place of each tensor, by name.
    """

    name: str
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorLocation]


def find_weight_files(folder: Path, config: Mapping[str, Any]) -> WeightFiles:
    """Find the weights of the checkpoint in `folder`, choosing among its files as transformers does.

    The choice is the file that config.json names as transformers_weights, else model.safetensors, else the
    shards of model.safetensors.index.json, else shards that are complete by the numbers in their names. Where
    there are several complete sets, they have to hold the same weights, and the log says which one is used.

    Raises:
        StartError: The weights are in another format, incomplete or damaged, or there are sets that differ.
    """
    if config.get(_OWN_NAME) is not None:
        return _named_by_config(folder, config[_OWN_NAME])
    sets = {}
    if (folder / SINGLE_FILE).is_file():
        sets[SINGLE_FILE] = [SINGLE_FILE]
    numbered = _numbered_shards(path.name for path in folder.iterdir())
    if indexed := _indexed_shards(folder, has_other_set=bool(sets or numbered)):
        sets[f"the shards of {SHARD_INDEX}"] = indexed
    for total, shards in numbered.items():
        if shards not in sets.values():
            sets[f"the {total} shards {shards[0]} to {shards[-1]}"] = shards
    if not sets:
        raise _no_safetensors(str(folder), [path.name for path in folder.iterdir()])
    (first, names), *others = sets.items()
    taken = _read(first, folder, names)
    for name, shards in others:
        _compare(folder, taken, name, shards)
    return taken


def check_listed_weights(
    where: str, listed: Collection[str], folder: Path, config: Mapping[str, Any]
) -> None:
    """Check that a set of weights is among the files of a checkpoint that is not here yet, by their names.

    Args:
        where: What the files are of, for messages.
        listed: The names of all its files, as paths inside it.
        folder: Where its configuration and the indexes of its shards lie.
        config: The content of its config.json.

    Raises:
        StartError: There is none, or one of its files is missing.
    """
    name = config.get(_OWN_NAME)
    if name is not None:
        needed = _shard_names(folder, name) if _own_name(name).endswith(_INDEX_SUFFIX) else [name]
    elif SINGLE_FILE in listed:
        return
    elif SHARD_INDEX in listed:
        needed = _shard_names(folder, SHARD_INDEX)
    elif _numbered_shards(listed):
        return
    else:
        raise _no_safetensors(where, listed)
    if absent := [file for file in needed if file not in listed]:
        raise StartError(f"{where} lacks {len(absent)} of its {len(needed)} weight files, {absent[0]} first")


def _read(name: str, folder: Path, files: list[str]) -> WeightFiles:
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise StartError(
            f"{folder} lacks {len(absent)} of its {len(files)} weight files, {absent[0]} first; "
            "finish its download"
        )
    paths = tuple(folder / file for file in files)
    tensors: dict[str, TensorLocation] = {}
    for path in paths:
        tensors |= read_tensor_file(path)
    return WeightFiles(name, paths, tensors)


def _compare(folder: Path, taken: WeightFiles, name: str, files: list[str]) -> None:
    """Refuse another complete set beside the one that is used, unless it holds the same weights."""
    try:
        other = _read(name, folder, files)
    except StartError as error:
        log.warning("%s: weights are those of %s; %s are not whole: %s", folder, taken.name, name, error)
        return
    if weights_fingerprint(taken.tensors) != weights_fingerprint(other.tensors):
        raise StartError(
            f"{folder} holds two sets of weights that differ, {taken.name} and {name}: "
            "move away the one that is not meant"
        )
    log.info("%s: weights are those of %s; %s hold the same", folder, taken.name, name)


def _own_name(name: object) -> str:
    """Return the value of transformers_weights.

    Raises:
        StartError: It is none that there may be.
    """
    if (
        not isinstance(name, str)
        or not _stays_inside(name)
        or not name.endswith((".safetensors", _INDEX_SUFFIX))
    ):
        raise StartError(
            f"config.json: {_OWN_NAME} is {name!r}, not a safetensors file or an index of some in its folder"
        )
    return name


def _named_by_config(folder: Path, value: object) -> WeightFiles:
    name = _own_name(value)
    if not (folder / name).is_file():
        raise StartError(f"{folder} lacks {name}, which its config.json names as {_OWN_NAME}")
    return _read(name, folder, _shard_names(folder, name) if name.endswith(_INDEX_SUFFIX) else [name])


def _indexed_shards(folder: Path, has_other_set: bool) -> list[str]:
    """Return the shards that the index names; empty where there is no index.

    Where there is another complete set, an index that is damaged or names missing files is ignored with a
    warning.
    """
    if not (folder / SHARD_INDEX).is_file():
        return []
    try:
        names = _shard_names(folder, SHARD_INDEX)
    except StartError as error:
        if not has_other_set:
            raise
        log.warning("%s; it is not used, other weights are there", error)
        return []
    absent = [name for name in names if not (folder / name).is_file()]
    if absent and has_other_set:
        log.warning(
            "%s names %d files that are not there, %s first; it is not used, other weights are there",
            folder / SHARD_INDEX,
            len(absent),
            absent[0],
        )
        return []
    return names


def _shard_names(folder: Path, index: str) -> list[str]:
    try:
        names = sorted(set(read_json_object(folder / index)["weight_map"].values()))
    except (StartError, KeyError, TypeError, AttributeError):
        names = []
    if not names or not all(isinstance(name, str) and _stays_inside(name) for name in names):
        raise StartError(f"{folder / index} is not a shard index, or is damaged; download it again")
    return names


def _stays_inside(name: str) -> bool:
    """Return whether a path stays inside the checkpoint's folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _numbered_shards(names: Iterable[str]) -> dict[int, list[str]]:
    """Return the shards that are complete by the numbers in their names, by their total number."""
    numbers: dict[int, dict[int, str]] = {}
    for name in sorted(names):
        if match := _SHARD.fullmatch(name):
            numbers.setdefault(int(match[2]), {})[int(match[1])] = name
    return {
        total: list(shards.values())
        for total, shards in numbers.items()
        if sorted(shards) == list(range(1, total + 1))
    }


def _no_safetensors(where: str, names: Iterable[str]) -> StartError:
    """Return the error for files of which none are weights that can be read."""
    names = sorted(names)
    if shards := [match for name in names if (match := _SHARD.fullmatch(name))]:
        return StartError(
            f"{where} holds {len(shards)} of {int(shards[0][2])} shards and no {SHARD_INDEX}; "
            "finish its download"
        )
    if SINGLE_FILE in names:
        return StartError(f"{where} holds {SINGLE_FILE}, which is no file; download it again")
    if others := fnmatch.filter(names, "*.safetensors"):
        return StartError(
            f"{where} holds {others[0]}, and neither {SINGLE_FILE} nor {SHARD_INDEX}; if it has the weights "
            f"under the names that transformers gives them, name it as {_OWN_NAME} in config.json"
        )
    if others := fnmatch.filter(names, "*.gguf"):
        return gguf_refusal(where, others[0])
    if others := sorted(name for pattern in _OTHER_FORMATS for name in fnmatch.filter(names, pattern)):
        return StartError(
            f"{where} holds its weights as {others[0]}, not as safetensors; "
            "load it with transformers where you trust it, and write it with save_pretrained"
        )
    return StartError(f"{where} holds no weights: {SINGLE_FILE} or {SHARD_INDEX} should be there")


def gguf_refusal(where: object, name: str) -> StartError:
    """Return the error for a folder, or a model of the hub, with weights in GGUF."""
    return StartError(
        f"{where} holds its weights as {name}, and GGUF is not supported: take the checkpoint that it was "
        f"made from, or load it with transformers (gguf_file='{name}') and write it with save_pretrained"
    )
