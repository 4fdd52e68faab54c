"""A tokenizer.model alone, small and trained here, as the first Llama and Mistral were published."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece

TEXTS = (
    "The following are multiple choice questions (with answers) about  abstract algebra.",
    "Which of the following is the largest?  A. one    B. two  C. three  D. four",
    "What is the capital of France? A. Rome B. Paris C. Berlin D. Madrid",
    "Answer: A", "Answer: B", "Answer: C", "Answer: D",
)  # fmt: skip


def write_sentencepiece(folder: Path, kind: str = "bpe", **configuration: Any) -> Path:
    """kind: "bpe" or "unigram". configuration: of tokenizer_config.json. `<mark>` is a user.s symbol."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        model_type=kind,
        vocab_size=360,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<mark>"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", **configuration}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
