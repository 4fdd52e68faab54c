"""A small random checkpoint of every family, written without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from continued_prompts import ContinuedPrompt, Tokens
from trt_common.model.geometry import read_geometry
from trt_server.model.files.tensor_file import tensor_file_header

VOCABULARY = 512
MAX_TOKENS = 250
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "float16",
}
# Each family with what sets it apart from Llama switched on.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "aquila": {"model_type": "aquila", "architectures": ["AquilaForCausalLM"], "num_key_value_heads": 4},
    "deepseek": {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_key_value_heads": 4,
        "intermediate_size": 344,
    },
    "mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 64},
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 64},
}

# Llama with a residual stream whose squares float16 cannot hold, as real models of 7 B have it.
LARGE, LARGE_DEVIATION = "large", 400.0

# Two layers as wide as those of a model of 7 B: sums over 11,008 products, scores of 2,048 tokens.
WIDE, WIDE_MAX_TOKENS = "wide", 2048
WIDE_SIZES = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}

_random = np.random.default_rng(1)
# From one token to the limit, around multiples of eight and around Mistral's window.
LENGTHS = (1, 250, 7, 8, 9, 63, 64, 65, 128, 200)
PROMPTS = [_random.integers(2, VOCABULARY, length).astype(np.int32) for length in LENGTHS]
# The last, and as many again that begin as it does.
SHARED_TOKENS = 100
SHARING = (9, 10, 11)
for length in (130, 177):
    own = _random.integers(2, VOCABULARY, length - SHARED_TOKENS).astype(np.int32)
    PROMPTS.append(np.concatenate([PROMPTS[9][:SHARED_TOKENS], own]))
WIDE_PROMPTS = [_random.integers(2, VOCABULARY, length).astype(np.int32) for length in (805, WIDE_MAX_TOKENS)]


def _tokens(length: int) -> Tokens:
    return tuple(_random.integers(2, VOCABULARY, length).tolist())


_shared_text = tuple(PROMPTS[9][:SHARED_TOKENS].tolist())
# Four prompts that begin as SHARING do: with several continuations, with one, with own tokens and candidates.
CONTINUED = (
    ContinuedPrompt(
        _shared_text + _tokens(37), (_tokens(3), _tokens(1), _tokens(60), _tokens(9)), own_tokens=5
    ),
    ContinuedPrompt(_shared_text + _tokens(1), (_tokens(64),), candidates=(3, 500, 3)),
    ContinuedPrompt(_shared_text + _tokens(80), candidates=(7,), own_tokens=20),
    ContinuedPrompt(_shared_text + _tokens(12), (_tokens(2),) * 2),
)


def write_family(
    folder: Path,
    family: str,
    embedding_deviation: float = 1.0,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Path:
    """Write weights in float16, and config.json beside them.

    Their deviations keep activations near 1, and logits where the embedding is the head too.
    embedding_deviation: of the residual stream, where it is not. sizes: in place of the small ones.
    """
    config = {**_SIZES, **FAMILIES[family], **sizes}
    shapes = read_geometry(config).tensor_shapes()
    random = np.random.default_rng(sum(map(ord, family)))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(tensor_file_header(shapes, "float16"))
        for name, shape in shapes.items():
            values = random.standard_normal(shape, np.float32)
            if name.endswith("norm.weight"):
                values = 1 + 0.1 * values
            elif len(shape) == 1:
                values = 0.1 * values
            elif "embed" in name and not config.get("tie_word_embeddings"):
                values = embedding_deviation * values
            else:
                values = values / shape[1] ** 0.5
            stream.write(values.astype(np.float16).tobytes())
    return folder
