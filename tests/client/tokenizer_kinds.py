"""Tokenizers of the kinds that models come with, small and made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmlu_client.prompts.tokenizer import Tokenizer as PromptTokenizer
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from trt_common.tokenizer.loading import library_encoder

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

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama_3() -> Tokenizer:
    """Words that are in the vocabulary are taken whole, whatever the merges say."""
    tokenizer = byte_level_after(pre_tokenizers.Split(Regex(LLAMA_3), "isolated"))
    saved = json.loads(tokenizer.to_str())
    saved["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(saved))


def qwen() -> Tokenizer:
    """Composes characters first, and takes digits one by one."""
    return byte_level_after(
        pre_tokenizers.Split(Regex(LLAMA_3.replace("{1,3}", "")), "isolated"), normalizer=normalizers.NFC()
    )


def deepseek() -> Tokenizer:
    """Splits in several steps: new lines, letters, digits, and what is left."""
    patterns = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+")
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    return byte_level_after(*splits, pre_tokenizers.Digits(individual_digits=True))


def metaspace() -> Tokenizer:
    """Llama 2's as transformers 5 writes it: the space before a text comes from the splitter."""
    saved = json.loads(sentencepiece_bpe().to_str())
    saved["normalizer"] = None
    saved["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False
    }  # fmt: skip
    return Tokenizer.from_str(json.dumps(saved))


def byte_level_after(*splits: Any, normalizer: Any = None) -> Tokenizer:
    """BPE of bytes, after splitters of its own."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_])
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _train(tokenizer, trainer)


# Those whose prompts may be cut, so that the head is encoded once.
CUT_KINDS = {
    "byte-level": byte_level,
    "sentencepiece": sentencepiece_bpe,
    "metaspace": metaspace,
    "llama-3": llama_3,
    "qwen": qwen,
    "deepseek": deepseek,
}


def joining(text: str) -> Tokenizer:
    """Bytes and no words; a token for each of ' A' to ' D', one for this text, and what leads to it."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((letters, _),) = splitter.pre_tokenize_str(" ABCD")
    ((word, _),) = splitter.pre_tokenize_str(text)
    merges = [(letters[0], letter) for letter in letters[1:]]
    merges += [(word[:place], word[place]) for place in range(2, len(word))]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(left + right for left, right in merges)]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = splitter
    return tokenizer


def with_token_across() -> Tokenizer:
    """An added token has the end of `Answer:` and what follows in it."""
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken(": B\n\n12", normalized=False)])
    return tokenizer


def in_pieces() -> Tokenizer:
    """Splits a text every seven characters, wherever that is."""
    return byte_level_after(pre_tokenizers.FixedLength(7))


def whole_texts() -> Tokenizer:
    """A text that is one token is that token, and there are no words."""
    saved = json.loads(sentencepiece_bpe().to_str())
    saved["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(saved))


def word_piece() -> Tokenizer:
    """BERT's kind."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["<unk>", "<s>"]
    return _train(
        tokenizer, trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    )


WHOLE_KINDS = {
    "unigram": unigram,
    "token-across": with_token_across,
    "pieces": in_pieces,
    "whole-texts": whole_texts,
    "word-piece": word_piece,
}


class Encoding(PromptTokenizer):
    """Counts what it was given: whole texts, and those behind a cut."""

    def __init__(self, tokenizer: Tokenizer, name: str = "the tokenizer") -> None:
        super().__init__(library_encoder(tokenizer), name)
        self.texts = 0
        self.rests = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.texts += len(texts)
        return super().encode(texts)

    def encode_rest(self, texts: Sequence[str]) -> list[list[int]]:
        self.rests += len(texts)
        return super().encode_rest(texts)


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
