"""Text → token ids, with the tokenizer of the model that is being served."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmlu_client.errors import InputError, RunError
from mmlu_client.head_cut import Cut, HeadCutter, TokenIds, encoded
from mmlu_client.hub import is_hub_id, quiet_hub

TOKENIZER_FILES = ("*token*", "vocab*", "*.model")


class Tokenizer(Protocol):
    """Special tokens (a BOS) are put where the tokenizer's own files say so."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text."""
        ...

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text without a BOS or the like."""
        ...

    def cut(self, head: str) -> Cut | None:
        """Where texts that begin with this one may be cut; None: they are to be encoded whole."""
        ...


class FastTokenizer:
    """One of the `tokenizers` library, past transformers' padding and masks: a third of the time a prompt."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._cutter = HeadCutter(tokenizer)
        # What its file may ask for of these is for training.
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        return encoded(self._tokenizer, texts, special=True)

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        return encoded(self._tokenizer, texts, special=False)

    def cut(self, head: str) -> Cut | None:
        return self._cutter.cut(head)


class SlowTokenizer:
    """One that transformers has in Python only."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = name
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        return self._encode(texts, special=True)

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        return self._encode(texts, special=False)

    def cut(self, head: str) -> Cut | None:  # noqa: ARG002
        return None

    def _encode(self, texts: Sequence[str], *, special: bool) -> list[TokenIds]:
        found = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)
        return [list(ids) for ids in found["input_ids"]]


def warm_import() -> None:
    """Import transformers, which takes seconds, while something else is waited for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401

    quiet_hub()


def served_tokenizer(files: Mapping[str, bytes]) -> Tokenizer:
    """The tokenizer from the server's files: file name → content. Raises RunError."""
    for name in files:
        if Path(name).name != name:
            raise RunError(f"the server's tokenizer has a file named {name!r}, not a plain file name")
    try:
        with tempfile.TemporaryDirectory(prefix="mmlu-client-") as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            return _load(Path(folder), "the server's tokenizer")
    except OSError as error:
        raise RunError(f"cannot write the server's tokenizer to a temporary file: {error.strerror}") from None


def named_tokenizer(source: str) -> Tokenizer:
    """What `--tokenizer` names: a folder, or a hub id (downloaded on first use). Raises InputError."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _load(folder, f"--tokenizer {source}")
    if folder.exists():
        raise InputError(f"--tokenizer {source} is not a folder")
    if is_hub_id(source):
        return _load(source, f"--tokenizer {source}")
    raise InputError(f"--tokenizer {source}: no such folder (nor is it a hub id like org/name)")


def _load(source: Path | str, name: str) -> Tokenizer:
    """source: a folder or a hub id. Raises InputError."""
    warm_import()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=isinstance(source, Path))
    except Exception as error:  # transformers raises whatever a broken file makes it raise
        if isinstance(source, Path) and not _holds_tokenizer(source):
            raise InputError(f"{name} holds no tokenizer (tokenizer.json, or the like)") from None
        reason = " ".join(str(error).split()) or type(error).__name__
        place = "" if isinstance(source, Path) else "no such folder, and from the hub: "
        raise InputError(f"cannot load {name}: {place}{reason}") from None
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return SlowTokenizer(tokenizer, name) if fast is None else FastTokenizer(fast, name)


def _holds_tokenizer(folder: Path) -> bool:
    """Whether a file in it is named as those of tokenizers are."""
    return any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern))
