"""Models named `dummy:<geometry>`: random weights in the shape of a known model.

They measure speed without a download.
"""

from __future__ import annotations

import hashlib
import json
import math
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trt_common.model.geometry import Geometry, read_geometry

from trt_server.cache.folder import cached_folder, check_room
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.files.tensor_file import ITEM_SIZES, tensor_file_header
from trt_server.model.files.weight_files import SINGLE_FILE
from trt_server.model.precision import weights_type

NOTICE = "random weights"

# The folder of the cache that they lie in.
_KIND = "dummy"
# Part of the cache's key: it must change whenever the way to draw the weights does.
_RECIPE = 1
_SEED = 20240607
# A prime number of random values, so that their repetitions do not line up with the rows of a matrix.
_BLOCK_ELEMENTS = 8_388_593


def _config(model_type: str, sizes: tuple[int, ...], **fields: Any) -> dict[str, Any]:
    """Return a config.json.

    Args:
        model_type: The family.
        sizes: The layers, hidden size, intermediate size, query heads, key-value heads, vocabulary size and
            positions.
        fields: Further fields.
    """
    names = (
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    )
    return {"model_type": model_type, **dict(zip(names, sizes, strict=True)), **fields}


_LLAMA_31_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

# The sizes of the models' own config.json files; the small ones are made up.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "tiny": _config("llama", (2, 64, 192, 4, 2, 512, 2048)),
    "llama-15m": _config("llama", (6, 288, 768, 6, 6, 32_000, 2048)),
    "llama-100m": _config("llama", (12, 640, 1728, 10, 10, 32_000, 2048)),
    "llama-1b": _config("llama", (16, 2048, 8192, 32, 8, 32_000, 2048), tie_word_embeddings=True),
    "aquila-7b": _config("aquila", (32, 4096, 11_008, 32, 32, 100_008, 2048)),
    "llama-7b": _config("llama", (32, 4096, 11_008, 32, 32, 32_000, 2048)),
    "llama-2-7b": _config("llama", (32, 4096, 11_008, 32, 32, 32_000, 4096), rms_norm_eps=1e-5),
    "llama-2-13b": _config("llama", (40, 5120, 13_824, 40, 40, 32_000, 4096), rms_norm_eps=1e-5),
    "llama-3-8b": _config(
        "llama", (32, 4096, 14_336, 32, 8, 128_256, 8192), rms_norm_eps=1e-5, rope_theta=500_000.0
    ),
    "llama-3.1-8b": _config(
        "llama",
        (32, 4096, 14_336, 32, 8, 128_256, 131_072),
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=_LLAMA_31_ROPE,
    ),
    "deepseek-7b": _config("llama", (30, 4096, 11_008, 32, 32, 102_400, 4096)),
    "mistral-7b": _config(
        "mistral", (32, 4096, 14_336, 32, 8, 32_000, 32_768), rms_norm_eps=1e-5, sliding_window=4096
    ),
    "qwen2-7b": _config("qwen2", (28, 3584, 18_944, 28, 4, 152_064, 131_072), rope_theta=1_000_000.0),
    "qwen3-8b": _config(
        "qwen3", (36, 4096, 12_288, 32, 8, 151_936, 40_960), head_dim=128, rope_theta=1_000_000.0
    ),
}


def dummy_geometry(name: str) -> Geometry:
    """Return the sizes of a known model.

    Raises:
        StartError: The name is not known.
    """
    return read_geometry(_known_config(name))


def dummy_folder(name: str, precision: str) -> Path:
    """Return a checkpoint folder with random weights, which is made once and kept in the cache.

    One block of 8 M values of a uniform distribution is drawn from a fixed seed, and the tensors are cut from
    it one after the other, again and again from its start. That writes as fast as the disk can, 14 GB as well
    as 14 MB. The weights of a product have variance 1 / inputs and those of norms are 1, so that activations
    keep their magnitude through any number of layers, in fp16 too; the two products that add to the residual
    stream have 1 / √(2 · layers) of that deviation. Biases are 0. There is no tokenizer.

    Args:
        name: The name of a known model.
        precision: What the engine computes in; all but "fp16" read float32.

    Raises:
        StartError: The name is not known, or the cache cannot be written.
    """
    written, geometry = dummy_config(name, precision), dummy_geometry(name)
    return cached_folder(
        _KIND,
        _key(name, precision),
        _what(name, precision),
        _size(name, precision),
        lambda folder: _write(folder, written, geometry, weights_type(precision)),
        _is_whole,
    )


def dummy_config(name: str, precision: str) -> dict[str, Any]:
    """Return the config.json of a known model with random weights.

    Args:
        name: The name of a known model.
        precision: What the engine computes in; all but "fp16" read float32.

    Raises:
        StartError: The name is not known.
    """
    family = dummy_geometry(name).family
    return {
        **_known_config(name),
        "architectures": [_ARCHITECTURES[family]],
        "dtype": weights_type(precision),
    }


def check_dummy_room(name: str, precision: str) -> bool:
    """Return whether a known model's random weights are still to be made.

    Raises:
        StartError: The name is not known, or the disk has no room for them.
    """
    return check_room(_KIND, _key(name, precision), _what(name, precision), _size(name, precision))


def _key(name: str, precision: str) -> str:
    recipe = json.dumps([_RECIPE, _SEED, dummy_config(name, precision)])
    return f"{name}-{precision}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def _what(name: str, precision: str) -> str:
    return f"random weights of dummy:{name} in {precision}"


def _size(name: str, precision: str) -> int:
    return dummy_geometry(name).total_parameters * ITEM_SIZES[weights_type(precision)]


def _known_config(name: str) -> dict[str, Any]:
    config = GEOMETRIES.get(name)
    if config is None:
        raise StartError(f"dummy:{name} is not known; known geometries: {', '.join(GEOMETRIES)}")
    return config


_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "aquila": "AquilaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def _write(folder: Path, config: dict[str, Any], geometry: Geometry, dtype: str) -> None:
    block = np.random.default_rng(_SEED).random(_BLOCK_ELEMENTS, np.float32)
    # Uniform with variance 1.
    block = (block - np.float32(0.5)) * np.float32(math.sqrt(12))
    shapes = geometry.tensor_shapes()
    with (folder / SINGLE_FILE).open("wb") as stream:
        stream.write(tensor_file_header(shapes, dtype))
        scaled: dict[float, NDArray[Any]] = {}
        start = 0
        for name, shape in shapes.items():
            count = prod(shape)
            if len(shape) == 1:
                np.full(count, 0 if name.endswith(".bias") else 1, dtype).tofile(stream)
                continue
            deviation = _deviation(name, shape[1], geometry.layers)
            if deviation not in scaled:
                scaled[deviation] = (block * np.float32(deviation)).astype(dtype)
            start = _write_round(stream, scaled[deviation], start, count)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _deviation(name: str, inputs: int, layers: int) -> float:
    if name == "model.embed_tokens.weight":
        return 1.0
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        return 1 / math.sqrt(inputs * 2 * layers)
    return 1 / math.sqrt(inputs)


def _write_round(stream: Any, block: NDArray[Any], start: int, count: int) -> int:
    """Write `count` elements of the endlessly repeated block from `start` on; return where they end."""
    while count:
        piece = block[start : start + count]
        piece.tofile(stream)
        count -= piece.size
        start = (start + piece.size) % block.size
    return start


def _is_whole(folder: Path) -> bool:
    try:
        open_checkpoint(folder)
    except StartError:
        return False
    return True
