"""A vocabulary that only transformers reads: vocab.json and merges.txt, whose words its code splits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from trt_common.one_line import reason_of
from trt_common.tokenizer.configuration import Configuration
from trt_common.tokenizer.errors import TokenizerError
from trt_common.tokenizer.fast_model import PROBE, FastModel
from trt_common.tokenizer.model import Template, TokenIds, VocabularyModel, template_of


class SlowModel:
    """A tokenizer that transformers implements in Python only."""

    library: Any | None = None

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def template(self) -> Template:
        """The special tokens that transformers puts around a text."""
        return template_of(*(self._ids([PROBE], special=special)[0] for special in (False, True)))

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, without special tokens before or after it."""
        return self._ids(texts, special=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some token ids, special tokens included."""
        found: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return found

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of special tokens."""
        return frozenset(self._tokenizer.all_special_ids)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None where the vocabulary does not have it."""
        found: int | None = self._tokenizer.get_vocab().get(token)
        return found

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[TokenIds]:
        found = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)
        return [list(ids) for ids in found["input_ids"]]


def load_with_transformers(folder: Path, configuration: Configuration) -> VocabularyModel:
    """Load a folder's tokenizer with transformers.

    This takes seconds, because transformers imports PyTorch where that is installed.

    Raises:
        TokenizerError: transformers is missing, or does not load the files.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    what = "without a tokenizer.json the tokenizer is read through transformers"
    try:
        from transformers import AutoTokenizer, __version__
    except ImportError as error:
        raise TokenizerError(
            f"{what}, which does not load ({reason_of(error)}): install it, or put the tokenizer.json there"
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file can make it raise anything
        raise TokenizerError(f"{what}, and version {__version__} says: {reason_of(error)}") from error
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return SlowModel(tokenizer) if fast is None else FastModel(fast, configuration)
