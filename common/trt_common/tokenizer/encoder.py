"""Texts → token ids, special tokens included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trt_common.tokenizer.beginning import Beginning
from trt_common.tokenizer.model import TokenIds, VocabularyModel

__all__ = ["TextEncoder", "TokenIds"]


class TextEncoder:
    """The tokenizer of one checkpoint. May be used by several threads at once."""

    def __init__(self, model: VocabularyModel, begins: Beginning) -> None:
        self._model = model
        self._begins = begins

    @property
    def first(self) -> tuple[int, ...]:
        """Ids of the special tokens before every text."""
        return self._begins.ids

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done that the vocabulary's file alone does not say: a line each."""
        return self._begins.notes

    @property
    def library(self) -> Any | None:
        """The `tokenizers.Tokenizer` that it encodes with; None where it is no such one."""
        return self._model.library

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, with a BOS where the files say so. Raises TokenizerError."""
        return [[*self.first, *ids] for ids in self._model.encode(texts)]

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text without a BOS or the like. Raises TokenizerError."""
        return self._model.encode(texts)
