"""A vocabulary that the `tokenizers` library reads: tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from trt_common.one_line import reason_of
from trt_common.tokenizer.configuration import Configuration, Token
from trt_common.tokenizer.errors import TokenizerError
from trt_common.tokenizer.model import Template, TokenIds, template_of

PROBE = "Answer: A"
# What a panic of the library is called in Python, in no module that has its class.
PANIC = "PanicException"


class FastModel:
    """A vocabulary of the `tokenizers` library.

    Without transformers' padding and masks a prompt takes a third of the time.
    """

    def __init__(self, library: Any, configuration: Configuration) -> None:
        """Take the vocabulary over and add the tokens of the configuration.

        Args:
            library: A tokenizers.Tokenizer, which is modified.
            configuration: The files beside the vocabulary.

        Raises:
            TokenizerError: An added token has another id in the vocabulary.
        """
        self.library = library
        # The file may ask for truncation, padding and dropout, which are for training.
        library.no_truncation()
        library.no_padding()
        if getattr(library.model, "dropout", None):
            library.model.dropout = None
        for token_id, token in sorted(configuration.added.items()):
            self._add(token_id, token)
        for token in configuration.special:
            self._mark_special(token)
        library.encode_special_tokens = configuration.splits_special

    @cached_property
    def template(self) -> Template:
        """The special tokens that tokenizer.json itself puts around a text."""
        plain = self.library.encode(PROBE, add_special_tokens=False)
        return template_of(plain.ids, self.library.post_process(plain).ids)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text, without special tokens before or after it.

        Raises:
            TokenizerError: The library gives up on a text.
        """
        with _panics_as_errors("a text"):
            encodings = self.library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some token ids, special tokens included.

        Raises:
            TokenizerError: The library gives up on them.
        """
        with _panics_as_errors("token ids"):
            found: str = self.library.decode(list(ids), skip_special_tokens=False)
        return found

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of special tokens."""
        added = self.library.get_added_tokens_decoder().items()
        return frozenset(token_id for token_id, token in added if token.special)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None where the vocabulary does not have it."""
        found: int | None = self.library.token_to_id(token)
        return found

    def _add(self, token_id: int, token: Token) -> None:
        """Add a token that another file lists with this id and these flags.

        Raises:
            TokenizerError: The vocabulary gives it another id.
        """
        added = tokenizers.AddedToken(token.content, **token.flags)
        before = self.library.get_added_tokens_decoder().get(token_id)
        if before is None or repr(before) != repr(added):
            self.library.add_tokens([added])
        if self.token_id(token.content) != token_id:
            raise TokenizerError(
                f"the added token {token.content!r} has the id {token_id} in tokenizer_config.json or "
                f"added_tokens.json, and {self.token_id(token.content)} by the vocabulary: "
                "copy the files again from where the model is from"
            )

    def _mark_special(self, token: Token) -> None:
        """Make a token special, so that it is found whole in a text.

        A token that the vocabulary lacks gets no id here.
        """
        if self.token_id(token.content) is None:
            return
        if all(token.content != each.content for each in self.library.get_added_tokens_decoder().values()):
            flags = {**token.flags, "special": True}
            self.library.add_special_tokens([tokenizers.AddedToken(token.content, **flags)])


@contextmanager
def _panics_as_errors(what: str) -> Iterator[None]:
    """Raise TokenizerError where the library panics.

    Its panics are no Exception: they would pass by everything that answers or reports an error.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise TokenizerError(
            f"the tokenizers library gives up on {what} ({reason_of(error)}): send another"
        ) from None


def read_library(path: Path) -> Any:
    """Return the tokenizers.Tokenizer of a tokenizer.json.

    Raises:
        TokenizerError: The file does not load.
    """
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except BaseException as error:
        # The library has no error class of its own, and its panics are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        raise TokenizerError(
            f"{path.name} does not load: {reason_of(error)}; copy it again from where the model is from"
        ) from error
