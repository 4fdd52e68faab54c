"""The architecture of the demo model: a small Llama with grouped-query attention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

# Far more than the demo's own prompts need, so that longer ones can be scored too.
CONTEXT = 2048
VOCABULARY = 2560

# The keys of published Llama checkpoints, which every version of transformers reads.
CONFIGURATION: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    # Large enough that attention distinguishes tokens from the first step on.
    "initializer_range": 0.08,
    "torch_dtype": "float32",
}


def new_model() -> Any:
    """Return a LlamaForCausalLM in fp32 with weights from torch's current seed."""
    return LlamaForCausalLM(LlamaConfig(**CONFIGURATION)).float()


def write_checkpoint(model: Any, folder: Path) -> None:
    """Write config.json and model.safetensors; the output head is the embedding and is not written again."""
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIGURATION, indent=2) + "\n", encoding="utf-8")
