"""The files beside a vocabulary: tokenizer_config.json, special_tokens_map.json, added_tokens.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trt_common.json_text import parse_json
from trt_common.one_line import reason_of
from trt_common.tokenizer.errors import TokenizerError

CONFIGURATION, SPECIAL_TOKENS, ADDED_TOKENS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# The classes that put a BOS first by default, whatever the template of tokenizer.json has.
BOS_CLASSES = frozenset({"LlamaTokenizer", "CodeLlamaTokenizer"})
# The names of special tokens in these files.
SINGLE_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
TOKEN_LISTS = ("additional_special_tokens", "extra_special_tokens")
# The largest of these files list some thousand tokens.
MOST_BYTES = 64 * 1024 * 1024
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Token:
    """A token as these files describe it.

    Attributes:
        content: Its text.
        flags: Those of FLAGS that the files give.
    """

    content: str
    flags: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """What these files say about special tokens and added tokens.

    Attributes:
        add_bos: Whether a BOS comes first; None where the files do not say.
        puts_bos_by_class: Whether a BOS comes first where add_bos is None.
        add_eos: Whether the files ask for an EOS at the end.
        bos: The text of the BOS; None where the files name none.
        names: The special tokens of each name, as `eos_token`; those that the files give.
        special: All special tokens that are named.
        added: The tokens that were added to the vocabulary, by id.
        splits_special: Whether special tokens within a text are encoded as plain text.
    """

    add_bos: bool | None = None
    puts_bos_by_class: bool = False
    add_eos: bool = False
    bos: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    special: tuple[Token, ...] = ()
    added: Mapping[int, Token] = field(default_factory=dict)
    splits_special: bool = False


def read_configuration(folder: Path) -> Configuration:
    """Read the files of a folder; missing ones are empty.

    Raises:
        TokenizerError: A file is damaged, or holds something unexpected.
    """
    settings, named = (_read(folder / name) for name in (CONFIGURATION, SPECIAL_TOKENS))
    # A tokenizer_config.json with added_tokens_decoder is complete and wins; without it the older file does.
    names = {**named, **settings} if "added_tokens_decoder" in settings else {**settings, **named}
    tokens = {name: _token(value, name) for name, value in names.items() if name in SINGLE_TOKENS and value}
    lists = [token for name in TOKEN_LISTS for token in _listed(names.get(name), name)]
    special = tuple({token.content: token for token in [*tokens.values(), *lists]}.values())
    tokenizer_class = str(settings.get("tokenizer_class")).removesuffix("Fast")
    return Configuration(
        add_bos=_truth(settings, "add_bos_token"),
        # transformers 5 writes `backend`, and leaves everything about a BOS to tokenizer.json.
        puts_bos_by_class=tokenizer_class in BOS_CLASSES and "backend" not in settings,
        add_eos=bool(_truth(settings, "add_eos_token")),
        bos=tokens["bos_token"].content if "bos_token" in tokens else None,
        names={name: token.content for name, token in tokens.items()},
        special=special,
        added=_added(settings.get("added_tokens_decoder"), _read(folder / ADDED_TOKENS), special),
        splits_special=bool(_truth(settings, "split_special_tokens")),
    )


def _added(decoder: Any, older: dict[str, Any], special: tuple[Token, ...]) -> dict[int, Token]:
    """Return the added tokens by id.

    Args:
        decoder: added_tokens_decoder (id → token).
        older: added_tokens.json (text → id), which is used where there is no decoder.
        special: The special tokens.
    """
    if decoder is None:
        names = {token.content for token in special}
        pairs = [
            (place, Token(text, {"special": text in names, "normalized": text not in names}))
            for text, place in older.items()
        ]
    elif isinstance(decoder, dict):
        pairs = [(place, _token(token, "added_tokens_decoder")) for place, token in decoder.items()]
    else:
        raise TokenizerError(f"{CONFIGURATION}: added_tokens_decoder is no object")
    try:
        return {int(place): token for place, token in pairs}
    except (TypeError, ValueError, OverflowError):
        raise TokenizerError(
            f"an added token's id in {CONFIGURATION} or {ADDED_TOKENS} is no number"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > MOST_BYTES:
        raise TokenizerError(f"{path.name} is larger than {MOST_BYTES} bytes")
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenizerError(f"cannot read {path.name}: {error.strerror}") from None
    except ValueError as error:
        raise TokenizerError(f"{path.name} is no JSON: {reason_of(error)}") from None
    if not isinstance(found, dict):
        raise TokenizerError(f"{path.name} is no JSON object")
    return found


def _token(value: Any, name: str) -> Token:
    if isinstance(value, str):
        return Token(value)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return Token(value["content"], {flag: bool(value[flag]) for flag in FLAGS if flag in value})
    raise TokenizerError(f"{name} in {CONFIGURATION} or {SPECIAL_TOKENS} is no token")


def _listed(value: Any, name: str) -> list[Token]:
    """Return the tokens of a list; transformers 5 may write an object with a name for each."""
    values = list(value.values()) if isinstance(value, dict) else value or []
    if not isinstance(values, list):
        raise TokenizerError(f"{name} in {CONFIGURATION} or {SPECIAL_TOKENS} is no list of tokens")
    return [_token(each, name) for each in values]


def _truth(settings: Mapping[str, Any], name: str) -> bool | None:
    value = settings.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise TokenizerError(f"{CONFIGURATION}: {name} is {value!r}, neither true nor false")
