"""What a vocabulary can do, whichever library reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trt_common.tokenizer.errors import TokenizerError

TokenIds = list[int]


@dataclass(frozen=True)
class Template:
    """Ids of the special tokens that its own file puts before and after every text."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


class VocabularyModel(Protocol):
    """template: of its own file. library: that of the `tokenizers` library, where it is one."""

    @property
    def template(self) -> Template: ...

    @property
    def library(self) -> Any | None: ...

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text, without special tokens before or after it. Raises TokenizerError."""
        ...

    def token_id(self, token: str) -> int | None:
        """None where the vocabulary does not have it."""
        ...


def template_of(plain: Sequence[int], whole: Sequence[int]) -> Template:
    """plain: the ids of a text alone. whole: with special tokens. Raises TokenizerError."""
    for place in range(len(whole) - len(plain) + 1):
        if list(whole[place : place + len(plain)]) == list(plain):
            return Template(tuple(whole[:place]), tuple(whole[place + len(plain) :]))
    raise TokenizerError("tokenizer.json changes a text where it puts special tokens around it")
