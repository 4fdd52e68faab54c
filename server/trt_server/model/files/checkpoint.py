"""A checkpoint: a folder whose configuration and weights were read and fit each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_common.model.config_field import names
from trt_common.model.errors import ConfigError
from trt_common.model.geometry import Geometry, read_geometry

from trt_server.errors import StartError
from trt_server.model.files.adapter import refuse_adapter_files
from trt_server.model.files.fingerprint import weights_fingerprint
from trt_server.model.files.json_file import read_json_object
from trt_server.model.files.weight_files import find_weight_files, gguf_refusal
from trt_server.model.files.weights import Weights, fit_weights


@dataclass(frozen=True)
class CheckpointHeaders:
    """What a checkpoint's configuration and the headers of its weights say.

    Attributes:
        folder: Where it is.
        config: The content of config.json.
        geometry: The model's sizes.
        weights: The tensors that the geometry needs, and no others.
        weight_files: The files that were read to find them, in this order.
    """

    folder: Path
    config: Mapping[str, Any]
    geometry: Geometry
    weights: Weights
    weight_files: tuple[Path, ...]

    @property
    def architecture(self) -> str:
        """The class that config.json names, such as "LlamaForCausalLM", or else its model_type."""
        return architecture(self.config, self.geometry)


@dataclass(frozen=True)
class Checkpoint(CheckpointHeaders):
    """A checkpoint that was opened.

    Attributes:
        fingerprint: A hash of the configuration and the weights, the same on every machine and for every way
            to shard them.
    """

    fingerprint: str


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the configuration of the checkpoint in `folder` and the headers of its weights, and hash them all.

    Raises:
        StartError: Something is missing, incomplete or not supported; the message is one line.
    """
    headers = read_headers(folder)
    try:
        fingerprint = _fingerprint(headers.config, headers.weights)
    except OSError as error:
        raise StartError(f"{folder} cannot be read: {error}") from error
    return Checkpoint(
        headers.folder, headers.config, headers.geometry, headers.weights, headers.weight_files, fingerprint
    )


def read_headers(folder: Path) -> CheckpointHeaders:
    """Read the configuration of the checkpoint in `folder` and the headers of its weights.

    The weights themselves are read where the folder holds two sets of them, which are compared, or a head
    beside the embedding that it is tied to.

    Raises:
        StartError: Something is missing, incomplete or not supported; the message is one line.
    """
    config, geometry = open_configuration(folder)
    try:
        found = find_weight_files(folder, config)
        geometry, weights = fit_weights(folder, found.tensors, geometry)
    except OSError as error:
        raise StartError(f"{folder} cannot be read: {error}") from error
    return CheckpointHeaders(folder, config, geometry, weights, found.files)


def architecture(config: Mapping[str, Any], geometry: Geometry) -> str:
    """Return the class that a config.json names, such as "LlamaForCausalLM", or else its model_type.

    Raises:
        ConfigError: What names it is no list of names.
    """
    return next(iter(names(config, "architectures")), geometry.family)


def open_configuration(folder: Path) -> tuple[dict[str, Any], Geometry]:
    """Read config.json alone, and the model's sizes from it.

    Raises:
        StartError: It is missing, damaged or not supported.
    """
    if not folder.is_dir():
        raise _no_folder(folder)
    try:
        config = _read_config(folder / "config.json")
    except OSError as error:
        raise StartError(f"{folder} cannot be read: {error}") from error
    try:
        names(config, "architectures")
        return config, read_geometry(config)
    except ConfigError as error:
        raise StartError(str(error)) from None


def _fingerprint(config: Mapping[str, Any], weights: Weights) -> str:
    canonical = json.dumps(config, sort_keys=True)
    return hashlib.sha256(f"{canonical}\n{weights_fingerprint(weights)}".encode()).hexdigest()


def _no_folder(path: Path) -> StartError:
    if path.suffix == ".gguf" and path.is_file():
        return gguf_refusal(path.parent, path.name)
    if path.is_file():
        return StartError(f"{path} is a file; name the checkpoint folder that it lies in")
    return StartError(f"{path} is not a folder; name a checkpoint folder with config.json in it")


def _read_config(path: Path) -> dict[str, Any]:
    folder = path.parent
    refuse_adapter_files(folder, is_model=path.exists())
    if not path.exists():
        if gguf := sorted(folder.glob("*.gguf")):
            raise gguf_refusal(folder, gguf[0].name)
        raise StartError(f"{folder} holds no config.json; name a Hugging Face checkpoint folder")
    return read_json_object(path)
