"""Text → token ids, with the tokenizer of the model that is being served."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError, RunError

TokenIds = list[int]


class Tokenizer:
    """A Hugging Face tokenizer. Special tokens (a BOS) are put where its own files say so."""

    def __init__(self, source: Path | str, name: str) -> None:
        """source: a folder or a hub id. name: what messages call it. Raises InputError."""
        self.name = name
        self._tokenizer = _load(source, name)
        # The Rust tokenizer itself, past Python's padding and masks: a third of the time a prompt.
        self._fast: Any = getattr(self._tokenizer, "backend_tokenizer", None)

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text."""
        if self._fast is not None:
            return [encoding.ids for encoding in self._fast.encode_batch_fast(list(texts))]
        return [list(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]


def warm_import() -> None:
    """Import transformers, which takes seconds, while something else is waited for."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401


def served_tokenizer(files: Mapping[str, bytes]) -> Tokenizer:
    """The tokenizer from the server's files: file name → content. Raises RunError."""
    for name in files:
        if Path(name).name != name:
            raise RunError(f"the server's tokenizer has a file named {name!r}, not a plain file name")
    try:
        with tempfile.TemporaryDirectory(prefix="mmlu-client-") as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            return Tokenizer(Path(folder), "the server's tokenizer")
    except OSError as error:
        raise RunError(f"cannot write the server's tokenizer to a temporary file: {error.strerror}") from None


def named_tokenizer(source: str) -> Tokenizer:
    """What `--tokenizer` names: a folder, or a hub id (downloaded on first use). Raises InputError."""
    folder = Path(source).expanduser()
    return Tokenizer(folder if folder.exists() else source, f"--tokenizer {source}")


def _load(source: Path | str, name: str) -> Any:
    warm_import()
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, local_files_only=isinstance(source, Path))
    except Exception as error:  # transformers raises whatever a broken file makes it raise
        text = str(error).strip()
        reason = text.splitlines()[0] if text else type(error).__name__
        raise InputError(f"cannot load {name}: {reason}") from None
