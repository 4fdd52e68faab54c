"""What lies beside a vocabulary: tokenizer_config.json, special_tokens_map.json, added_tokens.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trt_common.one_line import reason_of
from trt_common.tokenizer.errors import TokenizerError

CONFIGURATION, SPECIAL_TOKENS, ADDED_TOKENS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# These put a BOS first where nothing says otherwise, whatever the template of tokenizer.json says.
BOS_CLASSES = frozenset({"LlamaTokenizer", "CodeLlamaTokenizer"})
# The names of special tokens in these files.
SINGLE_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
TOKEN_LISTS = ("additional_special_tokens", "extra_special_tokens")
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Token:
    """A token as these files describe it. flags: those of FLAGS that they give."""

    content: str
    flags: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Configuration:
    """add_bos: None where the files do not say. bos: None where they name none.

    puts_bos_by_class: what counts where add_bos is None. special: every special token that is named.
    added: id → token. splits_special: special tokens within a text are taken as plain text.
    """

    add_bos: bool | None = None
    puts_bos_by_class: bool = False
    add_eos: bool = False
    bos: str | None = None
    special: tuple[Token, ...] = ()
    added: Mapping[int, Token] = field(default_factory=dict)
    splits_special: bool = False


def read_configuration(folder: Path) -> Configuration:
    """Raises TokenizerError."""
    settings, named = (_read(folder / name) for name in (CONFIGURATION, SPECIAL_TOKENS))
    # A file that lists its added tokens was written whole: the other is what older versions kept beside it.
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
        special=special,
        added=_added(settings.get("added_tokens_decoder"), _read(folder / ADDED_TOKENS), special),
        splits_special=bool(_truth(settings, "split_special_tokens")),
    )


def _added(decoder: Any, older: dict[str, Any], special: tuple[Token, ...]) -> dict[int, Token]:
    """From added_tokens_decoder (id → token), or added_tokens.json (text → id) where that is not there."""
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
    except (TypeError, ValueError):
        raise TokenizerError(
            f"an added token's id in {CONFIGURATION} or {ADDED_TOKENS} is no number"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
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
    """transformers 5 may give each of them a name of its own, too."""
    values = list(value.values()) if isinstance(value, dict) else value or []
    return [_token(each, name) for each in values]


def _truth(settings: Mapping[str, Any], name: str) -> bool | None:
    value = settings.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise TokenizerError(f"{CONFIGURATION}: {name} is {value!r}, neither true nor false")
