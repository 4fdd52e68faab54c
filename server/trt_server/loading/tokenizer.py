"""The checkpoint's tokenizer: its files for the client, and texts ⇄ token ids."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trt_common.tokenizer import (
    CONFIGURATION,
    FILE_NAMES,
    SAMPLE_TEXT,
    Configuration,
    TextEncoder,
    TokenDecoder,
    TokenIds,
    TokenizerError,
    holds_tokenizer,
    is_local,
    load_tokenizer,
    needs_transformers,
    read_configuration,
)

from trt_server.errors import InvalidRequestError, NoTokenizerError, StartError
from trt_server.model.files.json_file import read_json_object

log = logging.getLogger(__name__)

# Characters of an added token, in tokenizers whose texts are encoded by their ends.
MAX_ADDED_TOKEN = 192
CHAT_TEMPLATE = "chat_template.jinja"
# What names the tokens that end a text.
END_FILES = ("config.json", "generation_config.json")


class CheckpointTokenizer:
    """The tokenizer of one checkpoint folder. Not every checkpoint has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
        self.present = holds_tokenizer(folder)

    def check(self) -> None:
        """Load its files, but those that only transformers reads: these are loaded for the first text.

        Raises:
            StartError: They do not load.
        """
        for name in END_FILES:
            if (path := self._folder / name).is_file():
                read_json_object(path)
        if not self.present or needs_transformers(self._folder):
            return
        try:
            self._encoder  # noqa: B018
        except NoTokenizerError as error:
            raise StartError(f"the tokenizer in {self._folder}: {error.__cause__}") from error

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of its files, by their names.

        Raises:
            NoTokenizerError: The checkpoint has none.
        """
        self._require()
        return {path.name: path.read_bytes() for path in self._paths}

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 over the names and contents of its files.

        Raises:
            NoTokenizerError: The checkpoint has none.
        """
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    @cached_property
    def sample(self) -> tuple[str, NDArray[np.int32]]:
        """A text and its ids, by which a client sees that its own ids are the same.

        Both are empty where the tokenizer does not load. It takes seconds where only transformers reads the
        files.
        """
        try:
            return SAMPLE_TEXT, self.encode(SAMPLE_TEXT)
        except (NoTokenizerError, InvalidRequestError) as error:
            log.warning("no sample of the tokenizer's ids for clients: %s", error)
            return "", np.zeros(0, np.int32)

    def encode(self, text: str, *, special: bool = True) -> NDArray[np.int32]:
        """Return the token ids of a text.

        Args:
            text: Any text.
            special: Whether a BOS comes first where the tokenizer's files say so.

        Returns:
            int32 [tokens].

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
            InvalidRequestError: The tokenizer does not take this text.
        """
        (ids,) = self._encoded(self._encoder.encode if special else self._encoder.encode_rest, [text])
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Return the token ids of texts, each int32 [tokens], without special tokens before them.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
            InvalidRequestError: The tokenizer does not take one of them.
        """
        return self._encoded(self._encoder.encode_rest, texts)

    @cached_property
    def is_local(self) -> bool:
        """Whether an end of a text, of MAX_ADDED_TOKEN characters or more, can be encoded by itself.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        return is_local(self._encoder.library, MAX_ADDED_TOKEN)

    @property
    def first(self) -> tuple[int, ...]:
        """The ids of the special tokens that come before every text.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        return self._encoder.first

    def special_token(self, text: str) -> int | None:
        """Return the id of a special token that the files name, by its text; None where it is none.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        return self._encoder.token_id(text) if text in self._special_names else None

    @cached_property
    def decoder(self) -> TokenDecoder:
        """Token ids as text.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        return self._encoder.decoder

    @cached_property
    def settings(self) -> dict[str, Any]:
        """tokenizer_config.json, with the names of special tokens as texts and the template of a chat.

        `tokenizer_class`, `bos_token` and `eos_token` are always there; a token that the files do not name is
        None. `chat_template` is there where the checkpoint has one.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        found = json.loads(self.files.get(CONFIGURATION, b"{}"))
        names = dict(self._configuration.names)
        if "eos_token" not in names and (ends := sorted(self.end_tokens)):
            names["eos_token"] = self.decoder.text(ends[:1])
        if (template := self._folder / CHAT_TEMPLATE).is_file():
            found["chat_template"] = template.read_text(encoding="utf-8", errors="replace")
        always = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None, "eos_token": None}
        return {**always, **found, **names}

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """The ids of the tokens that end a text, as the checkpoint's files name them.

        Raises:
            NoTokenizerError: There is no tokenizer, or it does not load.
        """
        named = self._configuration.names.get("eos_token")
        token = None if named is None else self._encoder.token_id(named)
        ids = set() if token is None else {token}
        for name in END_FILES:
            if (path := self._folder / name).is_file():
                ids |= _listed_ids(read_json_object(path).get("eos_token_id"))
        return frozenset(ids)

    @cached_property
    def _configuration(self) -> Configuration:
        return read_configuration(self._folder)

    @cached_property
    def _special_names(self) -> frozenset[str]:
        return frozenset(token.content for token in self._configuration.special)

    @cached_property
    def _encoder(self) -> TextEncoder:
        self._require()
        try:
            encoder = load_tokenizer(self._folder)
        except TokenizerError as error:
            raise NoTokenizerError(
                f"this model's tokenizer does not load: {error}; send token ids"
            ) from error
        for note in encoder.notes:
            log.info("tokenizer: %s", note)
        return encoder

    def _encoded(
        self, encode: Callable[[Sequence[str]], list[TokenIds]], texts: Sequence[str]
    ) -> list[NDArray[np.int32]]:
        try:
            return [np.asarray(ids, dtype=np.int32) for ids in encode(texts)]
        except TokenizerError as error:
            raise InvalidRequestError(f"{error}, or send token ids") from error

    def _require(self) -> None:
        if not self.present:
            raise NoTokenizerError("this model has no tokenizer: send prompts and candidates as token ids")


def _listed_ids(value: object) -> set[int]:
    values = value if isinstance(value, list) else [value]
    return {each for each in values if isinstance(each, int)}
