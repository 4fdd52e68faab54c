"""A YAML file's values, each with the line it stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trt_common.command_line.values import quoted
from trt_common.one_line import one_line
from trt_common.small_file import read_small_file

from mmlu_client.campaign.file.errors import CampaignFileError
from mmlu_client.errors import InputError

# A campaign is written by hand. Aliases of aliases would be millions of values.
MOST_VALUES = 100_000
# Of a whole number: the seeds of flags are the largest.
MOST_BITS = 128
# Characters of a value in an error.
MOST_SHOWN = 80


@dataclass(frozen=True)
class Entry:
    """One value of a file.

    Attributes:
        path: the file.
        line: where the value stands, from 1; of a mapping's value the line of its key.
        value: a text, a number, a boolean, None, a list of entries, or a mapping of keys to entries.
    """

    path: Path
    line: int
    value: Any

    def fail(self, what: str) -> NoReturn:
        """Refuse the file because of this value.

        Raises:
            CampaignFileError: always.
        """
        raise CampaignFileError(self.path, self.line, what)

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands here."""
        return self.value is None

    def mapping(self, what: str) -> dict[str, Entry]:
        """Return the entries of a mapping by key.

        Args:
            what: what the error calls it.

        Raises:
            CampaignFileError: it is no mapping.
        """
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.fail(f"{what} has to hold lines like `name: value`, and is {self.text}")
        return dict(self.value)

    def sequence(self, what: str) -> list[Entry]:
        """Return the entries of a list.

        Args:
            what: what the error calls it.

        Raises:
            CampaignFileError: it is no list.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.fail(f"{what} has to be a list, and is {self.text}")
        return list(self.value)

    @property
    def plain(self) -> Any:
        """The value without its lines, as JSON holds it."""
        if isinstance(self.value, dict):
            return {key: each.plain for key, each in self.value.items()}
        if isinstance(self.value, list):
            return [each.plain for each in self.value]
        return self.value

    @property
    def text(self) -> str:
        """The value as an error shows it."""
        text = json.dumps(self.plain, ensure_ascii=False)
        return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def read_yaml(path: Path) -> Entry:
    """Read a file of one YAML document.

    Raises:
        InputError: it cannot be read, is not YAML, or holds too much.
    """
    try:
        root = yaml.compose(read_small_file(path).decode("utf-8-sig"), Loader=yaml.SafeLoader)
        if root is None:
            return Entry(path, 1, None)
        return _Reader(path).entry(root, root.start_mark.line + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise CampaignFileError(path, line, f"is not YAML: {what}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {one_line(error)}") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply") from None


class _Reader:
    """Makes entries of the nodes of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scalars = yaml.constructor.SafeConstructor()
        self._count = 0

    def entry(self, node: yaml.Node, line: int) -> Entry:
        """Make the entry of a node.

        Raises:
            CampaignFileError: there are too many, a key stands twice, or it is of a type that YAML adds.
        """
        self._count += 1
        if self._count > MOST_VALUES:
            raise CampaignFileError(self._path, line, f"the file holds more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.MappingNode):
            return Entry(self._path, line, dict(self._items(node)))
        if isinstance(node, yaml.SequenceNode):
            return Entry(self._path, line, [self.entry(each, _line(each)) for each in node.value])
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            raise CampaignFileError(
                self._path, line, f"cannot read {quoted(node.value)}: put it in quotes"
            ) from None
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise CampaignFileError(self._path, line, f"{quoted(node.value)} is too large a number")
        if value is not None and not isinstance(value, str | int | float):
            value = node.value
        return Entry(self._path, line, value)

    def _items(self, node: yaml.MappingNode) -> Iterator[tuple[str, Entry]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise CampaignFileError(self._path, _line(key), "a key has to be one word")
            if key.value in seen:
                first = seen[key.value]
                raise CampaignFileError(
                    self._path, _line(key), f"`{key.value}` stands here and in line {first}: leave one away"
                )
            seen[key.value] = _line(key)
            yield key.value, self.entry(value, _line(key))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
