"""A prompt's text, tokenized once, and the tokens of texts that are appended to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trt_server.errors import InvalidRequestError, shown
from trt_server.loading.tokenizer import MAX_ADDED_TOKEN, CheckpointTokenizer

# Characters that the ending of a prompt has, or more: the shortest first.
ENDINGS = (MAX_ADDED_TOKEN, 768, 3072)
# A place between two words, and so many of them from there to the end: what is appended at the end does not
# change the tokens before all of these words.
BETWEEN_WORDS = re.compile(r"(?<=\S)[ \n](?=\w)")
WORDS = 8
# Characters that are tokenized in one step.
STEP_CHARACTERS = 128 * 1024
# Characters that are tokenized for the texts that are appended to one prompt.
MAX_CHARACTERS = 4 * 1024 * 1024


class TextPrompt:
    """A text and its tokens.

    A text that is appended is tokenized with the ending of the prompt alone: some words, whose tokens by
    themselves are the last ones of the prompt's. Where the prompt has no such ending, or the tokenizer is one
    whose texts have to be encoded whole, it is the whole prompt.
    """

    def __init__(self, tokenizer: CheckpointTokenizer, text: str, *, special: bool) -> None:
        """Tokenize a text.

        Args:
            tokenizer: The checkpoint's.
            text: The prompt's.
            special: Whether a BOS comes first where the tokenizer's files say so.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
            InvalidRequestError: The tokenizer does not take this text.
        """
        self._tokenizer = tokenizer
        self._text = text
        self._special = special
        self.token_ids = tokenizer.encode(text, special=special)

    def following(self, texts: Sequence[str]) -> Iterator[list[NDArray[np.int32]]]:
        """Yield, in steps, the ids of the tokens that follow the prompt when each text is appended to it.

        Each array is int32 [tokens].

        Raises:
            InvalidRequestError: Appending one changes the prompt's own tokens or adds none, or too much would
                have to be tokenized.
        """
        if not texts:
            return
        ending, _ = self._ending
        characters = len(ending) * len(texts) + sum(map(len, texts))
        if characters > MAX_CHARACTERS:
            raise InvalidRequestError(
                f"{len(texts)} texts that are appended to a prompt take {characters} characters to tokenize, "
                f"the limit is {MAX_CHARACTERS}: send token ids, or fewer at once"
            )
        step, characters = list[str](), 0
        for text in texts:
            step.append(text)
            characters += len(ending) + len(text)
            if characters >= STEP_CHARACTERS:
                yield self._following(step)
                step, characters = [], 0
        yield self._following(step)

    def _following(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        ending, own = self._ending
        found = []
        together = self._tokenizer.encode_all([ending + text for text in texts])
        for text, ids in zip(texts, together, strict=True):
            if len(ids) <= len(own) or not np.array_equal(ids[: len(own)], own):
                raise InvalidRequestError(
                    f"{shown(text)} does not follow its prompt as tokens of its own: send token ids"
                )
            found.append(ids[len(own) :])
        return found

    @cached_property
    def _ending(self) -> tuple[str, NDArray[np.int32]]:
        """The end of the text, and its tokens, without special tokens before them."""
        for start in self._starts():
            (ids,) = self._tokenizer.encode_all([self._text[start:]])
            if 0 < len(ids) <= len(self.token_ids) and np.array_equal(self.token_ids[-len(ids) :], ids):
                return self._text[start:], ids
        first = len(self._tokenizer.first) if self._special else 0
        return self._text, self.token_ids[first:]

    def _starts(self) -> Iterator[int]:
        """Yield where an ending might begin: at the blank before a word, or behind it."""
        for characters in ENDINGS if self._tokenizer.is_local else ():
            if 2 * characters > len(self._text):
                return
            window = self._text[-2 * characters :]
            places = [match.start() for match in BETWEEN_WORDS.finditer(window)]
            if before := [place for place in places[:-WORDS] if place <= characters]:
                start = len(self._text) - len(window) + before[-1]
                yield from (start, start + 1)
