"""A checkpoint's tensors, checked against those that its geometry needs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from trt_common.model.geometry import Geometry

from trt_server.errors import StartError
from trt_server.model.files.adapter import refuse_adapter_tensors
from trt_server.model.files.tensor_file import ITEM_SIZES, TensorLocation

Weights = Mapping[str, TensorLocation]

log = logging.getLogger(__name__)

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

# A checkpoint of the base model, without a head, has its tensors' names without this prefix.
_PREFIX = "model."
# Old versions of transformers wrote this tensor; its values follow from the configuration.
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.inv_freq")
_LAYER_NUMBER = re.compile(r"(?:model\.)?layers\.(\d+)\.")
_COMPARED_ELEMENTS = 1024 * 1024


def fit_weights(folder: Path, tensors: Weights, geometry: Geometry) -> tuple[Geometry, Weights]:
    """Return the geometry as the weights have it, and the tensors that it needs, under the geometry's names.

    This does what transformers does: names without "model." get it, and where config.json ties the head to
    the embedding, one tensor is used for both, under either name. But a head whose values differ from the
    embedding's is used as it is, and the returned geometry is not tied.

    Raises:
        StartError: Tensors are missing, of another shape or type, or not known to the family.
    """
    weights = _named_as(geometry, folder, tensors)
    if geometry.tied_embeddings:
        if HEAD in weights and EMBEDDING not in weights:
            weights[EMBEDDING] = weights.pop(HEAD)
        if HEAD in weights and not _equal(weights[HEAD], weights[EMBEDDING]):
            log.warning(
                "%s: %s is used as it stands in the file; config.json ties it to the embedding, "
                "whose values are others",
                folder,
                HEAD,
            )
            geometry = replace(geometry, tied_embeddings=False)
    needed = geometry.tensor_shapes()
    refuse_adapter_tensors(folder, weights)
    missing = [name for name in needed if name not in weights]
    if missing:
        raise StartError(
            f"{folder} lacks {len(missing)} of the {len(needed)} tensors its config.json asks for, "
            f"{missing[0]} first: the checkpoint is partial or of another architecture"
        )
    for name, shape in needed.items():
        _check_tensor(name, weights[name], shape)
    _refuse_unknown(folder, weights, geometry)
    return geometry, {name: weights[name] for name in needed}


def _named_as(geometry: Geometry, folder: Path, tensors: Weights) -> dict[str, TensorLocation]:
    needed, named = geometry.tensor_shapes(), dict(tensors)
    for name in tensors:
        full = _PREFIX + name
        if full not in needed:
            continue
        if full in tensors:
            raise StartError(f"{folder} holds both {name} and {full}; only one of them can be meant")
        named[full] = named.pop(name)
    return named


def _check_tensor(name: str, tensor: TensorLocation, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise StartError(
            f"{tensor.file}: {name} has shape {list(tensor.shape)}, config.json asks for {list(shape)}"
        )
    if tensor.dtype not in ITEM_SIZES:
        raise StartError(
            f"{tensor.file}: {name} is {tensor.dtype}; only {', '.join(ITEM_SIZES)} weights are supported"
        )


def _refuse_unknown(folder: Path, weights: Weights, geometry: Geometry) -> None:
    """Refuse tensors that the graph would ignore (a bias, a scale, an adapter).

    Ignoring them would change the answers. Layers beyond the number in config.json are ignored with a
    warning, as in transformers.
    """
    known = {*geometry.tensor_shapes(), HEAD}
    beyond = set()
    for name in weights:
        layer = _LAYER_NUMBER.match(name)
        if layer is not None and int(layer[1]) >= geometry.layers:
            beyond.add(int(layer[1]))
        elif name not in known and not _IGNORED.fullmatch(name):
            raise StartError(
                f"{folder} holds {name}, which its config.json does not account for; it is not supported"
            )
    if beyond:
        log.warning(
            "%s: config.json counts %d layers; the weights of layers %d to %d are not used",
            folder,
            geometry.layers,
            min(beyond),
            max(beyond),
        )


def _equal(one: TensorLocation, other: TensorLocation) -> bool:
    """Return whether two tensors hold the same values; tensors of unsupported types count as different."""
    if one.shape != other.shape or one.dtype not in ITEM_SIZES or other.dtype not in ITEM_SIZES:
        return False
    return all(
        np.array_equal(one.values(start, _COMPARED_ELEMENTS), other.values(start, _COMPARED_ELEMENTS))
        for start in range(0, one.elements, _COMPARED_ELEMENTS)
    )
