"""The options of a program, each declared once, as a field of the dataclass that holds its value."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

# The keys in a field's metadata.
OPTION, NESTED = "option", "nested"

Declared = TypeVar("Declared")


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Option:
    group: str
    exclusive: bool
    flag: str
    read: Callable[[Any], Any]
    arguments: dict[str, Any]


def option(
    group: str,
    help: str,
    *,
    flag: str = "",
    exclusive: bool = False,
    read: Callable[[Any], Any] = _unchanged,
    **arguments: Any,
) -> Any:
    """Return a field of a dataclass that a flag, a key of the config file and a variable set.

    The key and the variable follow from the flag.

    Args:
        group: the title of its group in `--help`.
        help: what `--help` says of it.
        flag: as `--bs`; by default the field's name with two dashes before it.
        exclusive: whether at most one of the group's exclusive options may be given.
        read: makes the field's value of what was parsed, which is None where nothing was given and there is
            no default. What it raises is raised by `read_options`.
        arguments: what `ArgumentParser.add_argument` takes, such as `default`, `type` and `metavar`.
    """
    return field(metadata={OPTION: _Option(group, exclusive, flag, read, {"help": help, **arguments})})


def nested(declared: type) -> Any:
    """Return a field that holds another dataclass of options, whose flags stand in its place in `--help`."""
    return field(metadata={NESTED: declared})


def add_options(parser: argparse.ArgumentParser, declared: type) -> None:
    """Add to a parser the flags of a dataclass of options, in its order."""
    groups: dict[tuple[str, bool], Any] = {}
    for flag, each in _flags(declared):
        group = groups.get((each.group, False)) or parser.add_argument_group(each.group)
        groups[each.group, False] = group
        if each.exclusive:
            group = groups.get((each.group, True)) or group.add_mutually_exclusive_group()
            groups[each.group, True] = group
        group.add_argument(flag, **each.arguments)


def read_options(declared: type[Declared], chosen: argparse.Namespace, **others: Any) -> Declared:
    """Make a dataclass of options of what a parser found.

    Args:
        declared: the dataclass, whose flags `add_options` added to the parser.
        chosen: what the parser found.
        others: the fields that are no options.
    """
    values = dict(others)
    for each in fields(declared):  # type: ignore[arg-type]
        if NESTED in each.metadata:
            values[each.name] = read_options(each.metadata[NESTED], chosen)
        elif OPTION in each.metadata:
            flag = _flag(each.name, each.metadata[OPTION])
            value = getattr(chosen, flag.lstrip("-").replace("-", "_"))
            values[each.name] = each.metadata[OPTION].read(value)
    return declared(**values)


def _flags(declared: Any) -> Iterator[tuple[str, _Option]]:
    for each in fields(declared):
        if NESTED in each.metadata:
            yield from _flags(each.metadata[NESTED])
        elif OPTION in each.metadata:
            yield _flag(each.name, each.metadata[OPTION]), each.metadata[OPTION]


def _flag(name: str, declared: _Option) -> str:
    return declared.flag or f"--{name.replace('_', '-')}"
