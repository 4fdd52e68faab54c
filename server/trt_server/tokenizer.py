"""The checkpoint's tokenizer: its own files for the client, and text → ids for prompts sent as text."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trt_server.errors import InvalidRequestError, NoTokenizerError, StartError
from trt_server.one_line import one_line

# What transformers reads to build a tokenizer. config.json tells it the family.
FILE_NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "config.json",
)
VOCABULARY_NAMES = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json"})


class CheckpointTokenizer:
    """The tokenizer of one checkpoint folder. Not every checkpoint has one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
        self.present = any(path.name in VOCABULARY_NAMES for path in self._paths)

    def check(self) -> None:
        """Raises StartError where its file does not load; what only transformers reads is left to it."""
        path = self._folder / "tokenizer.json"
        if path not in self._paths:
            return
        try:
            Tokenizer.from_file(str(path))
        except Exception as error:
            raise StartError(
                f"{path} does not load: {one_line(error)}; copy it again from where the model is from"
            ) from error

    @cached_property
    def files(self) -> dict[str, bytes]:
        """File name → content. Raises NoTokenizerError."""
        self._require()
        return {path.name: path.read_bytes() for path in self._paths}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and contents. Raises NoTokenizerError."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def encode(self, text: str) -> NDArray[np.int32]:
        """Token ids, int32 [tokens], with a BOS where the tokenizer's files say so.

        Raises NoTokenizerError.
        """
        return np.asarray(self._encoder.encode(text), dtype=np.int32)

    def following_token(self, prompt: str, text: str) -> int:
        """The id of the token that follows `prompt` when `text` is appended to it.

        Raises InvalidRequestError where appending changes the prompt's own tokens or adds none.
        """
        alone, together = self.encode(prompt), self.encode(prompt + text)
        if len(together) <= len(alone) or not np.array_equal(together[: len(alone)], alone):
            raise InvalidRequestError(
                f"candidate {text!r} does not follow its prompt as a token of its own: send token ids"
            )
        return int(together[len(alone)])

    @cached_property
    def _encoder(self) -> Any:
        self._require()
        # Loaded on the first text prompt: most clients send ids, and the import takes longer than the start.
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        except Exception as error:
            raise NoTokenizerError(
                f"this model's tokenizer does not load: {one_line(error)}; send token ids"
            ) from error

    def _require(self) -> None:
        if not self.present:
            raise NoTokenizerError("this model has no tokenizer: send prompts and candidates as token ids")
