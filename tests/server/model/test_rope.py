"""Cosines and sines against transformers' own, for every kind of scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from trt_common.model.geometry import read_geometry
from trt_server.model.graph.rope import rope_tables

POSITIONS = 1024


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "default", "rope_theta": 10_000.0},
        {"rope_type": "default", "rope_theta": 1_000_000.0},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
            "rope_theta": 500_000.0,
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256, "truncate": False},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.5},
        {"rope_type": "yarn", "factor": 40.0, "mscale": 0.7, "mscale_all_dim": 1.3},
    ],
    ids=lambda parameters: "-".join(str(value) for value in parameters.values()),
)
def test_tables_are_those_of_transformers(parameters: dict[str, Any]) -> None:
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        num_hidden_layers=1,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_theta": 10_000.0} | parameters,
    )
    expected = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(POSITIONS)[None])
    tables = rope_tables(read_geometry(config.to_dict()), POSITIONS)
    for table, reference in zip(tables, expected, strict=True):
        assert table.dtype == np.float32
        # An angle of 1,024 rad is known to 6e-5 in float32.
        np.testing.assert_allclose(np.tile(table, 2), reference[0].numpy(), atol=2e-4)
