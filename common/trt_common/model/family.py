"""The families of models as data: how their layers differ, and the defaults of their config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Family:
    """The parts of a family's layers, and the fields of config.json that it uses.

    Attributes:
        defaults: The value of a field that config.json leaves out, as in the family's configuration class in
            transformers 5.24; None: it follows from other fields.
        heeds_attention_bias: Whether the field attention_bias is used.
        heeds_mlp_bias: Whether the field mlp_bias is used.
        query_key_value_bias: Whether the query, key and value products always have a bias.
        query_key_norm: Whether queries and keys pass through RMSNorm, head by head.
        windows: The layers with a sliding window. "none": no layer, whatever layer_types says. "every layer"
            and "later layers" (those from max_window_layers on) hold where there are no layer_types, which
            otherwise name them.
        heads_divide_hidden_size: Whether hidden_size has to be a multiple of num_attention_heads, as
            transformers requires.
    """

    defaults: Mapping[str, Any]
    heeds_attention_bias: bool = False
    heeds_mlp_bias: bool = False
    query_key_value_bias: bool = False
    query_key_norm: bool = False
    windows: Literal["none", "every layer", "later layers"] = "none"
    heads_divide_hidden_size: bool = False


_COMMON: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_LLAMA = Family(
    {**_COMMON, "vocab_size": 32_000, "intermediate_size": 11_008, "max_position_embeddings": 2048},
    heeds_attention_bias=True,
    heeds_mlp_bias=True,
    heads_divide_hidden_size=True,
)
_QWEN: dict[str, Any] = {
    **_COMMON,
    "vocab_size": 151_936,
    "intermediate_size": 22_016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32_768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}

# By model_type.
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    # transformers has no class for Aquila; its tensors and computation are Llama's.
    "aquila": _LLAMA,
    "mistral": Family(
        {
            **_COMMON,
            "vocab_size": 32_000,
            "intermediate_size": 14_336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "sliding_window": 4096,
        },
        windows="every layer",
    ),
    "qwen2": Family(_QWEN, query_key_value_bias=True, windows="later layers"),
    "qwen3": Family(
        {**_QWEN, "head_dim": 128}, heeds_attention_bias=True, query_key_norm=True, windows="later layers"
    ),
}
