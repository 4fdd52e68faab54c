"""Tokenizers of the kinds that models come with, small and made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = (
    "The following are multiple choice questions (with answers) about  abstract algebra.\n\n",
    "Which of the following is the largest?\nA. one\nB. two\nC. three\nD. four\nAnswer: A\n\n",
    "What is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Madrid\nAnswer: B\n\n",
    "Answer: A\n\nAnswer: B\n\nAnswer: C\n\nAnswer: D\n\n" * 30,
)
WORDS = 420


def byte_level() -> Tokenizer:
    """GPT-2's kind: bytes, a pattern that splits words first, and a BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    return _train(tokenizer, trainer)


def sentencepiece_bpe() -> Tokenizer:
    """Llama 2's kind: no word splitting, a space put before the text, bytes where a character is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Merges are learned within words and lines, and used without that bound, as in Llama 2, where a new line
    # is only a byte.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", *byte_tokens]
    lines = [line for text in TEXTS for line in text.splitlines()]
    _train(
        tokenizer, trainers.BpeTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False), lines
    )
    saved = json.loads(tokenizer.to_str())
    saved["pre_tokenizer"] = None
    saved["added_tokens"] = [
        token for token in saved["added_tokens"] if not token["content"].startswith("<0x")
    ]
    return Tokenizer.from_str(json.dumps(saved))


def unigram() -> Tokenizer:
    """T5's and XLNet's kind: the likeliest split of each word."""
    text = "".join(TEXTS).replace(" ", "▁")
    words = {f"▁{word}" for line in TEXTS for word in line.split()}
    scores = {
        "<s>": 0.0,
        "<unk>": 0.0,
        **dict.fromkeys(sorted(set(text)), -10.0),
        **dict.fromkeys(sorted(words), -9.0),
    }
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return _with_bos(tokenizer)


def letters_apart() -> Tokenizer:
    """One token a character: " A" is two, and no candidate."""
    alphabet = {character: place for place, character in enumerate(sorted(set("".join(TEXTS))))}
    return Tokenizer(models.BPE(vocab=alphabet, merges=[]))


KINDS = {"byte-level": byte_level, "sentencepiece": sentencepiece_bpe, "unigram": unigram}


class Encoding:
    """A tokenizer as the prompts want one."""

    def __init__(self, tokenizer: Tokenizer, name: str = "the tokenizer") -> None:
        self.name = name
        self.texts = 0
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.texts += len(texts)
        return [list(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """What a checkpoint's folder holds of it."""
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer_files(tokenizer).items():
        (folder / name).write_bytes(content)
    return folder


def _train(tokenizer: Tokenizer, trainer: trainers.Trainer, texts: Sequence[str] = TEXTS) -> Tokenizer:
    tokenizer.train_from_iterator(texts, trainer)
    return _with_bos(tokenizer)


def _with_bos(tokenizer: Tokenizer) -> Tokenizer:
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    return tokenizer
