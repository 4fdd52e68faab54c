"""What config.json may say and leave out, each against transformers reading the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import reference_model, write_from_config
from trt_server.engines.engine import EngineLimits, next_token_batch
from trt_server.engines.onnxruntime import OnnxRuntimeEngine
from trt_server.model.files.checkpoint import open_checkpoint

VOCABULARY_SIZE = 64
LENGTHS = (1, 9, 150)

CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
LEFT_OUT: Any = object()
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 8.0}
MIXED_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
V5_ROPE = {"rope_theta": 500_000.0, "rope_type": "default"}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    # Fields left out: the family's own defaults.
    "llama 1 without positions": (
        "llama",
        {"max_position_embeddings": LEFT_OUT, "max_sequence_length": 777, "num_key_value_heads": LEFT_OUT},
    ),
    "llama without epsilon": ("llama", {"rms_norm_eps": LEFT_OUT}),
    "mistral without key-value heads": (
        "mistral",
        {"num_key_value_heads": LEFT_OUT, "num_attention_heads": 16, "max_position_embeddings": LEFT_OUT},
    ),
    "qwen2 without positions": ("qwen2", {"max_position_embeddings": LEFT_OUT, "num_key_value_heads": None}),
    "qwen2 without key-value heads": (
        "qwen2",
        {"num_key_value_heads": LEFT_OUT, "num_attention_heads": 32, "head_dim": 2},
    ),
    "qwen3 without head size": ("qwen3", {"head_dim": LEFT_OUT}),
    "qwen2 without max_window_layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "num_hidden_layers": 29},
    ),
    "qwen3 without max_window_layers": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 16, "num_hidden_layers": 29, "head_dim": 16},
    ),
    # Fields that a family heeds or not.
    **{
        f"{family} with biases": (family, {"attention_bias": True, "mlp_bias": True, "head_dim": 24})
        for family in ("llama", "aquila", "mistral", "qwen2", "qwen3")
    },
    "llama has no windows": ("llama", {"sliding_window": 16, "layer_types": MIXED_LAYERS}),
    "mistral's window": ("mistral", {"sliding_window": 16}),
    "mistral's layers": ("mistral", {"sliding_window": 16, "layer_types": MIXED_LAYERS, "head_dim": 16}),
    "qwen3's layers": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 16, "layer_types": MIXED_LAYERS, "head_dim": 16},
    ),
    # Rotary embeddings, in the words of transformers 4 and 5 at once.
    "rope_scaling beside rope_parameters": (
        "qwen3",
        {"head_dim": 16, "rope_parameters": V5_ROPE, "rope_scaling": {**YARN, "rope_theta": 1e6}},
    ),
    "rope_scaling without rope_theta": ("llama", {"rope_parameters": V5_ROPE, "rope_scaling": YARN}),
    "rope_theta at the top": (
        "llama",
        {"rope_parameters": V5_ROPE, "rope_scaling": YARN, "rope_theta": 1e6},
    ),
    "empty rope_scaling": ("llama", {"rope_parameters": V5_ROPE, "rope_scaling": {}, "rope_theta": 1e6}),
    "linear rope_scaling": (
        "mistral",
        {"rope_parameters": V5_ROPE, "rope_scaling": {"type": "linear", "factor": 8}},
    ),
    "llama3, original length at the top": (
        "llama",
        {"rope_scaling": LLAMA3, "original_max_position_embeddings": 64},
    ),
    "yarn, original length at the top and inside": (
        "qwen2",
        {
            "rope_scaling": {**YARN, "original_max_position_embeddings": 256},
            "original_max_position_embeddings": 64,
        },
    ),
    "llama3, no original length": ("llama", {"rope_scaling": LLAMA3}),
    "linear, original length at the top": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "original_max_position_embeddings": 64},
    ),
    "yarn, factor null": (
        "llama",
        {"rope_scaling": {**YARN, "factor": None, "original_max_position_embeddings": 64}},
    ),
    "yarn, nulls": (
        "llama",
        {"rope_scaling": {**YARN, "truncate": None, "beta_fast": None, "beta_slow": None, "mscale": None}},
    ),
}


def config_of(family: str, fields: dict[str, Any]) -> dict[str, Any]:
    named = {**CONFIG, "model_type": family, **fields}
    return {name: value for name, value in named.items() if value is not LEFT_OUT}


def assert_as_transformers(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> None:
    """Log-probabilities of the whole vocabulary, the count of parameters and of positions."""
    checkpoint, reference = open_checkpoint(folder), reference_model(folder)
    engine = OnnxRuntimeEngine(checkpoint, EngineLimits(max(lengths), 1), threads=1, peak_flops=1e12)
    candidates = np.arange(VOCABULARY_SIZE, dtype=np.int32)[None]
    for length in lengths:
        prompt = np.random.default_rng(length).integers(0, VOCABULARY_SIZE, (1, length), np.int32)
        batch = next_token_batch(prompt, np.array([length], np.int32), candidates)
        scores = engine.submit(batch).wait().scores
        expected = reference(torch.from_numpy(prompt).long()).logits[0, -1].log_softmax(-1)
        np.testing.assert_allclose(scores.target_logprobs, expected.numpy(), atol=1e-3)
    assert checkpoint.geometry.total_parameters == sum(p.numel() for p in reference.parameters())
    assert checkpoint.geometry.max_positions == reference.config.max_position_embeddings


@pytest.mark.parametrize(("family", "fields"), VARIANTS.values(), ids=VARIANTS)
def test_read_as_transformers_reads_it(tmp_path: Path, family: str, fields: dict[str, Any]) -> None:
    assert_as_transformers(write_from_config(tmp_path, config_of(family, fields)))


# The head of a model whose config.json ties it to the embedding.

TIED = config_of("llama", {"tie_word_embeddings": True})
HEAD = torch.randn(VOCABULARY_SIZE, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", ["llama", "aquila", "mistral", "qwen2", "qwen3"])
def test_a_head_of_its_own_is_used(tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_from_config(tmp_path, TIED | {"model_type": family, "head_dim": 16}, lm_head__weight=HEAD)
    assert_as_transformers(folder, (9,))
    assert not open_checkpoint(folder).geometry.tied_embeddings
    assert "lm_head.weight is used as it stands in the file" in caplog.text


@pytest.mark.parametrize("same", ["bytes", "values"])
def test_a_head_that_holds_the_embedding_once_more_is_tied(tmp_path: Path, same: str) -> None:
    embedding = torch.randn(VOCABULARY_SIZE, 64).bfloat16()
    head = embedding if same == "bytes" else embedding.float()
    tensors = {"model__embed_tokens__weight": embedding, "lm_head__weight": head.clone()}
    checkpoint = open_checkpoint(write_from_config(tmp_path, TIED, **tensors))
    assert checkpoint.geometry.tied_embeddings
    assert "lm_head.weight" not in checkpoint.weights


def test_a_head_that_differs_at_its_end(tmp_path: Path) -> None:
    """Compared to the last value: 2 M of them, in several pieces."""
    config = TIED | {"vocab_size": 32_768, "num_hidden_layers": 1}
    embedding = torch.randn(32_768, 64)
    head = embedding.clone()
    head[-1, -1] += 1
    tensors = {"model__embed_tokens__weight": embedding, "lm_head__weight": head}
    assert not open_checkpoint(write_from_config(tmp_path, config, **tensors)).geometry.tied_embeddings


def test_the_head_alone_stands_for_the_embedding(tmp_path: Path) -> None:
    renamed = {"model__embed_tokens__weight": "lm_head.weight"}
    assert_as_transformers(write_from_config(tmp_path, TIED, **renamed), (9,))


# Names of tensors.


def test_names_without_the_prefix_of_the_whole_model(tmp_path: Path) -> None:
    folder = write_from_config(tmp_path / "whole", TIED)
    names = open_checkpoint(folder).weights
    renamed = {name.replace(".", "__"): name.removeprefix("model.") for name in names}
    assert_as_transformers(write_from_config(tmp_path / "layers", TIED, **renamed), (9,))


def test_layers_that_config_json_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_from_config(tmp_path, TIED)
    (folder / "config.json").write_text(json.dumps(TIED | {"num_hidden_layers": 1}))
    assert_as_transformers(folder, (9,))
    assert "config.json counts 1 layers; the weights of layers 1 to 2 are not used" in caplog.text


def test_frequencies_of_old_checkpoints_are_passed_over(tmp_path: Path) -> None:
    frequencies = {
        "model__layers__0__self_attn__rotary_emb__inv_freq": torch.zeros(8),
        "model__rotary_emb__inv_freq": torch.zeros(8),
    }
    assert_as_transformers(write_from_config(tmp_path, TIED, **frequencies), (9,))
