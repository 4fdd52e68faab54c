"""The tokenizer of the served model: texts → token ids."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from trt_common.tokenizer import FILE_NAMES, TextEncoder, TokenIds, TokenizerError, load_tokenizer

from mmlu_client.data.model_folder import model_folder
from mmlu_client.errors import InputError, RunError
from mmlu_client.prompts.head_cut import Cut, HeadCutter
from mmlu_client.prompts.served_tokenizer import ServedTokenizer

TOKENIZER_FILES = ("*token*", "vocab*", "*.model")


class Tokenizer:
    """A tokenizer and its name.

    A BOS comes first where the tokenizer's own files ask for it, by the rule in
    trt_common.tokenizer.beginning.
    """

    def __init__(self, encoder: TextEncoder, name: str) -> None:
        """Take an encoder, and the name that messages call it by."""
        self.name = name
        self._encoder = encoder
        self._cutter = HeadCutter(encoder)

    @property
    def first(self) -> tuple[int, ...]:
        """The ids of the special tokens before every text."""
        return self._encoder.first

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the tokenizer differs from the vocabulary's own file, one line each."""
        return self._encoder.notes

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text.

        Raises:
            InputError: A text cannot be encoded.
        """
        try:
            return self._encoder.encode(texts)
        except TokenizerError as error:
            raise InputError(f"{self.name}: {error}") from None

    def encode_rest(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text without special tokens before it.

        Raises:
            InputError: A text cannot be encoded.
        """
        try:
            return self._encoder.encode_rest(texts)
        except TokenizerError as error:
            raise InputError(f"{self.name}: {error}") from None

    def cut(self, head: str) -> Cut | None:
        """Return where texts that begin with this one can be cut; None where they must be encoded whole."""
        return self._cutter.cut(head)

    def difference(self, text: str, ids: Sequence[int]) -> str | None:
        """Return in words where this tokenizer's ids of a text differ from these; None where they are equal.

        Raises:
            InputError: The text cannot be encoded.
        """
        (mine,) = self.encode([text])
        if mine == list(ids):
            return None
        place = next(
            (place for place, pair in enumerate(zip(mine, ids, strict=False)) if pair[0] != pair[1]),
            min(len(mine), len(ids)),
        )
        return (
            f"of a sample text the server makes {len(ids)} tokens, it makes {len(mine)}; they part at token "
            f"{place}: {_around(ids, place)} there, {_around(mine, place)} here"
        )


def load_checked(named: str | None, served: ServedTokenizer | None, model_id: str) -> Tokenizer:
    """Load the named tokenizer, or else the server's, and compare its ids of a sample text with the server's.

    Both sides read the same files, but possibly with different versions of the libraries.

    Raises:
        InputError: There is no tokenizer, it does not load, or the named one is not the model's.
        RunError: The server's tokenizer gives other ids here.
    """
    if named is not None:
        tokenizer = named_tokenizer(named)
    elif served is not None and served.files:
        tokenizer = served_tokenizer(served.files)
    else:
        raise InputError(
            f"{model_id} has no tokenizer: name one whose ids its vocabulary has, with --tokenizer demo (the "
            "bundled one), or a folder, or a hub id"
        )
    if served is None or not served.sample_text:
        return tokenizer
    difference = tokenizer.difference(served.sample_text, served.sample_ids)
    if difference is None:
        return tokenizer
    if named is not None:
        raise InputError(
            f"{tokenizer.name} is not the tokenizer of the server's model: {difference}; "
            f"{'leave it out' if served.files else 'name the folder that the server has its own from'}"
        )
    raise RunError(
        f"{tokenizer.name} gives other ids here than there: {difference}; install trt-server, tokenizers and "
        "sentencepiece in the same versions on both sides"
    )


def served_tokenizer(files: Mapping[str, bytes]) -> Tokenizer:
    """Load the tokenizer from the server's files (file name → content).

    Raises:
        InputError: The files do not load.
        RunError: The files cannot be written to a temporary folder.
    """
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
    """Load the tokenizer that `--tokenizer` names: `demo`, a folder, or a hub id, downloaded on first use.

    Raises:
        InputError: There is none, or it does not load.
    """
    return _load(model_folder(source, "--tokenizer", FILE_NAMES), f"--tokenizer {source}")


def tokenizer_files(named: str | None, served: ServedTokenizer | None) -> Mapping[str, bytes]:
    """Return the contents of the files of the named tokenizer, or else of the server's, by file name.

    Raises:
        InputError: There is no tokenizer of that name, or its files cannot be read.
    """
    if named is None:
        return served.files if served is not None else {}
    folder = model_folder(named, "--tokenizer", FILE_NAMES)
    try:
        return {name: (folder / name).read_bytes() for name in FILE_NAMES if (folder / name).is_file()}
    except OSError as error:
        raise InputError(f"cannot read --tokenizer {named}: {error.strerror}") from None


def _load(folder: Path, name: str) -> Tokenizer:
    """Load the tokenizer in a folder, which messages call by this name.

    Raises:
        InputError: There is none, or it does not load.
    """
    try:
        return Tokenizer(load_tokenizer(folder), name)
    except TokenizerError as error:
        if not any(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)):
            raise InputError(f"{name} holds no tokenizer (tokenizer.json, or the like)") from None
        raise InputError(f"cannot load {name}: {error}") from None


def _around(ids: Sequence[int], place: int) -> str:
    return str(list(ids[place : place + 3])) if place < len(ids) else "nothing"
