"""A folder's tokenizer files → the encoder that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_common.tokenizer.beginning import beginning
from trt_common.tokenizer.configuration import (
    ADDED_TOKENS,
    CONFIGURATION,
    SPECIAL_TOKENS,
    Configuration,
    read_configuration,
)
from trt_common.tokenizer.encoder import TextEncoder
from trt_common.tokenizer.fast_model import FastModel, read_library
from trt_common.tokenizer.sentencepiece_model import load_sentencepiece
from trt_common.tokenizer.transformers_model import load_with_transformers

TOKENIZER_JSON, SENTENCEPIECE, VOCABULARY, MERGES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
# What a tokenizer is built from. config.json tells transformers the family.
FILE_NAMES = (
    TOKENIZER_JSON,
    CONFIGURATION,
    SPECIAL_TOKENS,
    ADDED_TOKENS,
    SENTENCEPIECE,
    VOCABULARY,
    MERGES,
    "config.json",
)


def holds_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (TOKENIZER_JSON, SENTENCEPIECE, VOCABULARY))


def needs_transformers(folder: Path) -> bool:
    """Whether only transformers reads its tokenizer, whose import takes seconds."""
    return not any((folder / name).is_file() for name in (TOKENIZER_JSON, SENTENCEPIECE))


def library_encoder(library: Any, configuration: Configuration | None = None) -> TextEncoder:
    """library: a tokenizers.Tokenizer, which is changed. Raises TokenizerError."""
    configuration = configuration or Configuration()
    model = FastModel(library, configuration)
    return TextEncoder(model, beginning(configuration, model, f"the template of {TOKENIZER_JSON}"))


def load_tokenizer(folder: Path) -> TextEncoder:
    """Through `tokenizers` where there is a tokenizer.json, through `sentencepiece` where there is a
    tokenizer.model alone, through transformers else. Raises TokenizerError."""
    configuration = read_configuration(folder)
    if (path := folder / TOKENIZER_JSON).is_file():
        return library_encoder(read_library(path), configuration)
    if (path := folder / SENTENCEPIECE).is_file():
        pieces, configuration = load_sentencepiece(path, configuration)
        return TextEncoder(pieces, beginning(configuration, pieces, None))
    model = load_with_transformers(folder, configuration)
    return TextEncoder(model, beginning(configuration, model, "transformers"))
