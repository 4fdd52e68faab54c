"""A vocabulary that the `sentencepiece` library reads: tokenizer.model without a tokenizer.json.

Ids are those that sentencepiece gives to the whole text: a user-defined symbol in it is one token, and a
control symbol (`<s>`) is plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trt_common.one_line import reason_of
from trt_common.tokenizer.configuration import Configuration
from trt_common.tokenizer.errors import TokenizerError
from trt_common.tokenizer.model import Template, TokenIds

BLANK = "\u2581"  # what stands for a blank in a piece
QUIET = 3  # sentencepiece would also print to stderr that a file does not load


class SentencePieceModel:
    """A vocabulary of the `sentencepiece` library. Its file has no template."""

    template = Template()
    library: Any | None = None

    def __init__(self, processor: Any, configuration: Configuration) -> None:
        """Take a sentencepiece.SentencePieceProcessor, and the tokens that were added to it."""
        self._processor = processor
        self._added = configuration.added
        # Tokens that were added to the model later, and that tokenizer.model does not have.
        self._foreign = {
            token.content: token_id
            for token_id, token in configuration.added.items()
            if self._piece_id(token.content) != token_id
        }

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text.

        Raises:
            TokenizerError: A text contains a token that tokenizer.model does not have.
        """
        for token in self._foreign:
            if any(token in text for text in texts):
                raise TokenizerError(
                    f"a text holds the added token {token!r}, of which tokenizer.model knows nothing: "
                    "put the model's tokenizer.json beside it"
                )
        found: list[TokenIds] = self._processor.encode(list(texts))
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of some token ids, control symbols and added tokens included."""
        text = b"".join(map(self._bytes, ids)).decode(errors="replace")
        # sentencepiece leaves out the blank that it puts before a text.
        return text[1:] if text.startswith(" ") and self._decodes_without_blank(ids[0]) else text

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of control symbols and added special tokens."""
        control = filter(self._processor.is_control, range(self._processor.get_piece_size()))
        return frozenset({*control, *(id for id, token in self._added.items() if token.flags.get("special"))})

    def token_id(self, token: str) -> int | None:
        """Return the id of a token; None where neither the file nor the configuration has it."""
        return self._foreign.get(token, self._piece_id(token))

    @property
    def bos(self) -> str | None:
        """The BOS that the file itself names; None where it names none."""
        place = self._processor.bos_id()
        return None if place < 0 else str(self._processor.id_to_piece(place))

    def _bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].content.encode()
        if token_id >= self._processor.get_piece_size():
            return b""
        piece = str(self._processor.id_to_piece(token_id))
        if self._processor.is_byte(token_id):
            return bytes([int(piece[3:-1], 16)])
        if self._processor.is_unknown(token_id):
            return str(self._processor.decode([token_id])).encode()
        return piece.replace(BLANK, " ").encode()

    def _decodes_without_blank(self, token_id: int) -> bool:
        return not self._processor.decode([token_id]).startswith(" ")

    def _piece_id(self, piece: str) -> int | None:
        # sentencepiece gives a piece that it does not have the id of the unknown token.
        place = int(self._processor.piece_to_id(piece))
        return place if self._processor.id_to_piece(place) == piece else None


def load_sentencepiece(path: Path, configuration: Configuration) -> tuple[SentencePieceModel, Configuration]:
    """Load a tokenizer.model.

    Returns:
        The vocabulary, and the configuration with this kind of file's defaults where it says nothing.

    Raises:
        TokenizerError: The file does not load, or the package is missing.
    """
    try:
        import sentencepiece
    except ImportError:
        raise TokenizerError(
            f"{path.name} without a tokenizer.json needs the sentencepiece package: pip install sentencepiece"
        ) from None
    sentencepiece.set_min_log_level(QUIET)
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load(str(path))
    except (OSError, RuntimeError) as error:
        raise TokenizerError(
            f"{path.name} is no SentencePiece model ({reason_of(error)}): take the model's tokenizer.json, "
            "or copy it again from where the model is from"
        ) from None
    model = SentencePieceModel(processor, configuration)
    return model, replace(configuration, puts_bos_by_class=True, bos=configuration.bos or model.bos)
