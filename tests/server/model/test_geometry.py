"""config.json in both dialects, its defaults, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from trt_common.model.errors import ConfigError
from trt_common.model.geometry import read_geometry

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


def test_both_dialects_of_rope_are_one() -> None:
    old = read_geometry(LLAMA | {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"rope_type": "llama3"}})
    older = read_geometry(LLAMA | {"rope_theta": 5e5, "rope_scaling": LLAMA3 | {"type": "llama3"}})
    new = read_geometry(LLAMA | {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "rope_theta": 5e5}})
    assert old == older == new
    assert (new.rope.kind, new.rope.theta, new.rope.factor) == ("llama3", 5e5, 8.0)
    assert new.rope.original_max_positions == 256


def test_what_a_config_leaves_out() -> None:
    geometry = read_geometry(LLAMA | {"rope_scaling": None, "head_dim": None})
    assert (geometry.key_value_heads, geometry.head_size) == (4, 16)
    assert (geometry.rms_epsilon, geometry.rope.theta, geometry.rope.kind) == (1e-6, 1e4, "default")
    assert geometry.sliding_windows == (None,) * 4
    assert not geometry.tied_embeddings


def test_sliding_windows_of_each_family() -> None:
    window = {"sliding_window": 16}
    assert read_geometry(LLAMA | window).sliding_windows == (None,) * 4
    mistral = LLAMA | {"model_type": "mistral", "num_key_value_heads": 2}
    assert read_geometry(mistral | window).sliding_windows == (16,) * 4
    assert read_geometry(mistral).sliding_windows == (4096,) * 4
    assert read_geometry(mistral | {"sliding_window": None}).sliding_windows == (None,) * 4
    for family in ("qwen2", "qwen3"):
        qwen = LLAMA | window | {"model_type": family, "max_window_layers": 3, "num_key_value_heads": 2}
        assert read_geometry(qwen).sliding_windows == (None,) * 4
        assert read_geometry(qwen | {"use_sliding_window": True}).sliding_windows == (None, None, None, 16)


def test_layer_types_come_before_max_window_layers() -> None:
    types = ["sliding_attention", "full_attention"] * 2
    config = LLAMA | {
        "model_type": "qwen3",
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 8,
        "layer_types": types,
    }
    assert read_geometry(config | {"max_window_layers": 4}).sliding_windows == (8, None, 8, None)


def test_biases_and_norms_of_each_family() -> None:
    def flags(family: str, **fields: Any) -> tuple[bool, bool, bool]:
        geometry = read_geometry(LLAMA | {"model_type": family, "num_key_value_heads": 2} | fields)
        return geometry.query_key_value_bias, geometry.attention_output_bias, geometry.query_key_norm

    assert flags("llama") == flags("aquila") == flags("mistral") == (False, False, False)
    assert flags("llama", attention_bias=True) == (True, True, False)
    assert flags("mistral", attention_bias=True) == (False, False, False)
    assert flags("qwen2") == flags("qwen2", attention_bias=True) == (True, False, False)
    assert flags("qwen3", attention_bias=True) == (True, True, True)
    assert flags("qwen3") == (False, False, True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized weights (gptq) are not supported"),
        (
            {"rope_scaling": {"rope_type": "longrope", "factor": 2}},
            "RoPE scaling 'longrope' is not supported",
        ),
        ({"rope_scaling": {"type": "linear"}}, "factor is None"),
        ({"rope_scaling": "linear"}, "not an object"),
        ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor is nan"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "factor is None"),
        ({"rope_scaling": {"rope_type": None, "type": "linear"}}, "RoPE scaling None is not supported"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2, "attention_factor": "1"}},
            "attention_factor is '1'",
        ),
        (
            {"rope_scaling": LLAMA3 | {"rope_type": "llama3", "high_freq_factor": 1.0}},
            "high_freq_factor 1.0 is not above low_freq_factor 1.0",
        ),
        (
            {"rope_scaling": LLAMA3 | {"rope_type": "llama3"}, "original_max_position_embeddings": None},
            "original_max_position_embeddings is None",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {}}},
            "RoPE parameters of their own for some layers (full_attention, sliding_attention)",
        ),
        ({"rope_theta": None}, "rope_theta is None"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5 is not supported"),
        ({"is_causal": False}, "is_causal false is not supported"),
        ({"per_layer_config": {"0": {"intermediate_size": 32}}}, "per_layer_config is not supported"),
        ({"configuration_files": ["config.5.0.0.json"]}, "configuration_files is not supported"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', not true or false"),
        ({"attention_bias": None}, "attention_bias is None, not true or false"),
        ({"hidden_size": 66}, "hidden_size 66 is not a multiple of num_attention_heads 4"),
        ({"model_type": "mistral", "num_attention_heads": 8, "head_dim": 7}, "head size 7 is odd"),
        (
            {"model_type": "qwen2", "num_key_value_heads": 2, "layer_types": ["sliding_attention"] * 4},
            "layer_types names sliding_attention, and no window is set",
        ),
        (
            {"model_type": "qwen3", "num_key_value_heads": 2, "max_window_layers": "all"},
            "max_window_layers is 'all'",
        ),
        ({"num_hidden_layers": "four"}, "num_hidden_layers is 'four'"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"num_key_value_heads": 3}, "not a multiple of num_key_value_heads 3"),
        ({"head_dim": 15}, "head size 15 is odd"),
        ({"model_type": "mistral", "layer_types": ["full_attention"]}, "each of the 4 layers"),
        ({"model_type": "mistral", "layer_types": ["chunked_attention"] * 4}, "each of the 4 layers"),
    ],
)
def test_refused_by_name_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_geometry(LLAMA | fields)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
