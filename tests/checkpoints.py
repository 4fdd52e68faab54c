"""Random checkpoints of every family, as small as they can be, with a tokenizer: real files for tests."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

FAMILIES = ("llama", "aquila", "deepseek", "mistral", "qwen2", "qwen3")

VOCABULARY_SIZE = 512
BOS, EOS = "<s>", "</s>"

TOKENIZER_TEXT = (
    "The following are multiple choice questions (with answers) about abstract algebra.\n\n",
    "Which of the following numbers is the largest?\nA. one\nB. two\nC. three\nD. four\nAnswer: D\n\n",
    "Statement 1 | Every group of prime order is cyclic. Statement 2 | The Earth turns around the Sun.",
    "A. True, True\nB. False, False\nC. True, False\nD. False, True\nAnswer: A\n\n",
    "A river carries sand to the sea, and the sea builds a beach from it; what is the beach made of?",
    "The court held that the contract was void because one of the parties was a minor at that time.",
    # So often that each letter of an answer is a token.
    "Answer: A\n\nAnswer: B\n\nAnswer: C\n\nAnswer: D\n\n" * 30,
)

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

# Each family with what sets it apart from Llama switched on.
_FAMILY_CONFIG: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel], dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "aquila": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "deepseek": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4, "intermediate_size": 172}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 16}),
    "qwen2": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 24}),
}


def write_checkpoint(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: str = "float32",
    tokenizer: bool = True,
    max_shard_size: str = "1GB",
    **config_overrides: Any,
) -> Path:
    """Write a random checkpoint of `family` (one of FAMILIES) into `folder` and return `folder`.

    About 0.2 M parameters: 3 layers, hidden size 64, 4 query and 2 key-value heads, 512 tokens, 2,048
    positions. Every parameter is random, norms and biases too, and large enough that the next-token
    probabilities are far from uniform. `config_overrides` are fields of the family's transformers config
    (`num_hidden_layers=8`); a small `max_shard_size` ("100KB") gives a sharded checkpoint.

    With `tokenizer`, a byte-level BPE of at most 512 tokens that puts a BOS first lies beside it and loads
    through AutoTokenizer. The same arguments give the same files.
    """
    config_class, model_class, differences = _FAMILY_CONFIG[family]
    config = config_class(**{**_SIZES, **differences, **config_overrides})
    model = model_class(config)
    _randomize(model, seed)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=max_shard_size)
    if family == "aquila":
        edit_config(folder, model_type="aquila", architectures=["AquilaForCausalLM"])
    if tokenizer:
        write_tokenizer(folder)
    return folder


def write_from_config(folder: Path, config: dict[str, Any], **tensors: torch.Tensor | str) -> Path:
    """Write `config` as config.json, unchanged, and random weights as transformers shapes them for it.

    `tensors` are set in the file beside them, `__` in a name for a dot; a text gives that one another name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    known = (LlamaConfig if config["model_type"] == "aquila" else AutoConfig).from_pretrained(folder)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(known)](known)
    _randomize(model, 0)
    content = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if known.tie_word_embeddings:
        del content["lm_head.weight"]
    for key, tensor in tensors.items():
        name = key.replace("__", ".")
        if isinstance(tensor, torch.Tensor):
            content[name] = tensor
        else:
            content[tensor] = content.pop(name)
    save_file(content, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit_config(folder: Path, **fields: Any) -> None:
    """Set fields of the checkpoint's config.json; None takes a field out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None}, indent=2)
    )


def reference_logprobs(folder: Path, prompt: list[int]) -> torch.Tensor:
    """Log-probabilities, float32 [vocabulary], of the token after `prompt`, from transformers in fp32."""
    return reference_model(folder)(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)


def reference_model(folder: Path) -> PreTrainedModel:
    """The checkpoint as transformers loads it, in fp32, with no gradients and its plain attention.

    transformers knows no Aquila; its tensors are Llama's.
    """
    # Threads of so small a model mostly wait for each other, and long on a machine that is busy.
    torch.set_num_threads(1)
    written = max(file.stat().st_mtime_ns for file in folder.iterdir())
    return _loaded_model(folder, written)


@lru_cache(maxsize=4)
def _loaded_model(folder: Path, written: int) -> PreTrainedModel:  # noqa: ARG001
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model_class = LlamaForCausalLM if model_type == "aquila" else AutoModelForCausalLM
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE trained on TOKENIZER_TEXT, with a BOS put first, in transformers' files."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TOKENIZER_TEXT, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, eos_token=EOS).save_pretrained(folder)


def _randomize(model: PreTrainedModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.ndim == 1 or "embed" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(1.5 * noise / parameter.shape[1] ** 0.5)
