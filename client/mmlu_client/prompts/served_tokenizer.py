"""The tokenizer of a model, as its server gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServedTokenizer:
    """The tokenizer that a server gives with its model.

    Attributes:
        files: their contents, by file name.
        fingerprint: equal where two servers give the same files.
        sample_text: a text to compare tokenizers by; empty where the server does not tell.
        sample_ids: the token ids that the server makes of it.
    """

    files: Mapping[str, bytes]
    fingerprint: str
    sample_text: str
    sample_ids: tuple[int, ...]
