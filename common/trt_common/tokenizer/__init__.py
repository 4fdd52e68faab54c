"""Texts ⇄ token ids, by a checkpoint's own tokenizer files, for the server and the client."""

from __future__ import annotations

from trt_common.tokenizer.configuration import CONFIGURATION, Configuration, read_configuration
from trt_common.tokenizer.decoder import START, Place, TokenDecoder
from trt_common.tokenizer.encoder import TextEncoder, TokenIds
from trt_common.tokenizer.errors import TokenizerError
from trt_common.tokenizer.loading import FILE_NAMES, holds_tokenizer, load_tokenizer, needs_transformers
from trt_common.tokenizer.locality import is_local
from trt_common.tokenizer.sample import SAMPLE_TEXT

__all__ = [
    "CONFIGURATION",
    "FILE_NAMES",
    "SAMPLE_TEXT",
    "START",
    "Configuration",
    "Place",
    "TextEncoder",
    "TokenDecoder",
    "TokenIds",
    "TokenizerError",
    "holds_tokenizer",
    "is_local",
    "load_tokenizer",
    "needs_transformers",
    "read_configuration",
]
