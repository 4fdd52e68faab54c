"""Flags as a campaign's file gives them: one by one, each with its line."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from trt_common.command_line.path_value import why_no_path

from mmlu_client.campaign.file.yaml_file import Entry

# What these name is relative to the file's folder, if it is there.
PATHS = frozenset(
    {
        "model", "data", "include-path", "tokenizer", "model-config", "tls-ca", "tls-cert", "tls-key",
        "token-file", "api-key-file",
    }
)  # fmt: skip


def flags_of(entry: Entry, base: Path, what: str) -> Iterator[tuple[str, Entry, Any]]:
    """Read the flags of a mapping.

    Args:
        entry: the mapping.
        base: the file's folder.
        what: what an error calls it.

    Yields:
        A flag's name, its entry, and its value, in which a path is absolute.

    Raises:
        CampaignFileError: it is no mapping of flags to values.
    """
    for name, each in entry.mapping(what).items():
        value = each.plain
        items = value if isinstance(value, list) else [value]
        if isinstance(value, dict) or any(isinstance(item, dict | list) or item is None for item in items):
            each.fail(f"`{name}` of {what} has to be a value or a list of values, and is {each.text}")
        if any(not can_be_argument(str(item)) for item in items):
            each.fail(f"`{name}` of {what} holds characters that no argument can have, and is {each.text}")
        yield name, each, _absolute(value, base) if name in PATHS else value


def refuse(name: str, entry: Entry, refused: Collection[str], why: str) -> None:
    """Refuse a flag that a campaign sets itself.

    Raises:
        CampaignFileError: it is one of `refused`.
    """
    if name in refused:
        entry.fail(f"`{name}` cannot be set: {why}")


def can_be_argument(text: str) -> bool:
    """Return whether a program can be given a text: no null character, and nothing that has no bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _absolute(value: Any, base: Path) -> Any:
    if not isinstance(value, str) or why_no_path(value) is not None:
        return value  # the flag's own reader says so
    path = base / Path(value).expanduser()
    return str(path.resolve()) if why_no_path(str(path)) is None and path.exists() else value
