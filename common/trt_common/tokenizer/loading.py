"""The choice of the library that reads a folder's tokenizer files."""

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
# The files that a tokenizer is made from. transformers finds the family in config.json.
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
    """Return whether a folder holds a vocabulary."""
    return any((folder / name).is_file() for name in (TOKENIZER_JSON, SENTENCEPIECE, VOCABULARY))


def needs_transformers(folder: Path) -> bool:
    """Return whether only transformers reads the folder's tokenizer; importing it takes seconds."""
    return not any((folder / name).is_file() for name in (TOKENIZER_JSON, SENTENCEPIECE))


def library_encoder(library: Any, configuration: Configuration | None = None) -> TextEncoder:
    """Return an encoder that uses a tokenizers.Tokenizer, which is modified.

    Raises:
        TokenizerError: The configuration does not fit the vocabulary.
    """
    configuration = configuration or Configuration()
    model = FastModel(library, configuration)
    return TextEncoder(model, beginning(configuration, model, f"the template of {TOKENIZER_JSON}"))


def load_tokenizer(folder: Path) -> TextEncoder:
    """Load the tokenizer of a folder.

    tokenizer.json is read with `tokenizers`, a tokenizer.model without it with `sentencepiece`, and
    everything else with transformers.

    Raises:
        TokenizerError: The files are damaged or do not fit together, or a library is missing.
    """
    configuration = read_configuration(folder)
    if (path := folder / TOKENIZER_JSON).is_file():
        return library_encoder(read_library(path), configuration)
    if (path := folder / SENTENCEPIECE).is_file():
        pieces, configuration = load_sentencepiece(path, configuration)
        return TextEncoder(pieces, beginning(configuration, pieces, None))
    model = load_with_transformers(folder, configuration)
    return TextEncoder(model, beginning(configuration, model, "transformers"))
