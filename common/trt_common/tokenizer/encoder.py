"""Texts → token ids, special tokens included."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from trt_common.tokenizer.beginning import Beginning
from trt_common.tokenizer.decoder import TokenDecoder
from trt_common.tokenizer.model import TokenIds, VocabularyModel

__all__ = ["TextEncoder", "TokenIds"]


class TextEncoder:
    """The tokenizer of one checkpoint. Several threads may use it at once."""

    def __init__(self, model: VocabularyModel, begins: Beginning) -> None:
        self._model = model
        self._begins = begins

    @property
    def first(self) -> tuple[int, ...]:
        """The ids of the special tokens before every text."""
        return self._begins.ids

    @property
    def notes(self) -> tuple[str, ...]:
        """Where this encoder differs from the vocabulary's own file, one line each."""
        return self._begins.notes

    @property
    def library(self) -> Any | None:
        """The `tokenizers.Tokenizer` that it encodes with; None where it uses another library."""
        return self._model.library

    @cached_property
    def decoder(self) -> TokenDecoder:
        """The way back, from token ids to text."""
        return TokenDecoder(self._model)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None where the vocabulary does not have it."""
        return self._model.token_id(token)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, with a BOS where the files ask for it.

        Raises:
            TokenizerError: A text cannot be encoded.
        """
        return [[*self.first, *ids] for ids in self._model.encode(texts)]

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text without special tokens before it.

        Raises:
            TokenizerError: A text cannot be encoded.
        """
        return self._model.encode(texts)
