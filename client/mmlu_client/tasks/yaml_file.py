"""YAML files of tasks, looked at before lm-eval loads them: what their aliases stand for is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from trt_common.one_line import printable

from mmlu_client.errors import InputError

# Values of a file with every alias written out. lm-eval's own largest file has some thousand.
MAX_VALUES = 100_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Loader):  # type: ignore[misc]
    """Loads what a file says, and none of the functions that it names."""


_PlainLoader.add_multi_constructor("!", lambda *_: None)


def check_yaml_files(paths: Iterable[Path]) -> None:
    """Refuse files whose aliases stand for more than a task can mean: written out, they fill any memory.

    A file that cannot be read or is not YAML is left to lm-eval, which says so where the task is asked for.

    Args:
        paths: of the files; those that they include are looked at too.

    Raises:
        InputError: A file has such aliases, or one that contains itself.
    """
    left, seen = [Path(os.path.realpath(path)) for path in paths], set[Path]()
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            content = path.read_bytes()
            # A file without them is as large as it looks.
            values = _values(content) if b"&" in content and b"*" in content else 0
            if values <= MAX_VALUES:
                left += _included(path, content)
        except (OSError, yaml.YAMLError, ValueError, RecursionError):
            continue
        if values > MAX_VALUES:
            raise InputError(
                f"{printable(str(path))}: its aliases (*) stand for more than {MAX_VALUES:,} values, or for "
                "themselves: write out what is meant"
            )


def _included(path: Path, content: bytes) -> list[Path]:
    """Return the files that one includes, which may be anywhere and of any name."""
    if b"include" not in content:
        return []
    found = yaml.load(content, Loader=_PlainLoader)
    names = found.get("include", []) if isinstance(found, dict) else []
    names = names if isinstance(names, list) else [names]
    return [Path(os.path.realpath(path.parent / name)) for name in names if isinstance(name, str)]


def _values(content: bytes) -> int:
    """Count a file's values as if its aliases were written out; one that contains itself has no end.

    Returns:
        The number; MAX_VALUES + 1 where it is larger.
    """
    # What each anchor stands for, and the collections that are open, with their anchors and values.
    anchored: dict[str, int] = {}
    open_ones: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(content, Loader=_Loader):
        values, anchor = 0, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            if anchor is not None:
                # Until it is closed: nothing may be larger than what contains itself.
                anchored[anchor] = MAX_VALUES + 1
            open_ones.append((anchor, 1))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, values = open_ones.pop()
        elif isinstance(event, yaml.AliasEvent):
            values, anchor = anchored.get(str(anchor), 0), None
        elif isinstance(event, yaml.ScalarEvent):
            values = 1
        if anchor is not None:
            anchored[anchor] = values
        outer, sum_of_outer = open_ones[-1]
        open_ones[-1] = (outer, min(sum_of_outer + values, MAX_VALUES + 1))
    return open_ones[0][1]
