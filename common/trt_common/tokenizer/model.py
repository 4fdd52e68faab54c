"""The interface of a vocabulary, whichever library reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trt_common.tokenizer.errors import TokenizerError

TokenIds = list[int]


@dataclass(frozen=True)
class Template:
    """The ids of the special tokens that a vocabulary's own file puts before and after every text."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


class VocabularyModel(Protocol):
    """A vocabulary that encodes texts, and decodes token ids."""

    @property
    def template(self) -> Template:
        """The special tokens that its own file puts around a text."""
        ...

    @property
    def library(self) -> Any | None:
        """The `tokenizers.Tokenizer`; None where another library reads it."""
        ...

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, without special tokens before or after it.

        Raises:
            TokenizerError: A text cannot be encoded.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some token ids.

        Special tokens are in it, an id beyond the vocabulary is not. Bytes that are no character, such as the
        first of several, become U+FFFD. A blank that encoding puts before a text is left out again.
        """
        ...

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of special tokens, which are no part of what a reader is shown."""
        ...

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None where the vocabulary does not have it."""
        ...


def template_of(plain: Sequence[int], whole: Sequence[int]) -> Template:
    """Return the special tokens around a text.

    Args:
        plain: The ids of the text alone.
        whole: The ids with special tokens.

    Raises:
        TokenizerError: The text's ids are not in the whole ones.
    """
    for place in range(len(whole) - len(plain) + 1):
        if list(whole[place : place + len(plain)]) == list(plain):
            return Template(tuple(whole[:place]), tuple(whole[place + len(plain) :]))
    raise TokenizerError("tokenizer.json changes a text where it puts special tokens around it")
