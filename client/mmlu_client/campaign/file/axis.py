"""The axes of a campaign's matrix, and the values that a file gives each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trt_common.command_line.nearest import suggestion
from trt_common.command_line.values import quoted

from mmlu_client.campaign.cell import JOINT
from mmlu_client.campaign.file.yaml_file import Entry

MODEL, SERVER, WORKLOAD, PROMPT_FORMAT, LOAD = "model", "server", "workload", "prompt-format", "load"
REPETITION = "repetition"
# Each axis by the key under which a file lists its values, in the order of a cell's name.
AXES = {
    "models": MODEL,
    "servers": SERVER,
    "workloads": WORKLOAD,
    "prompt-formats": PROMPT_FORMAT,
    "loads": LOAD,
}
COORDINATES = (*AXES.values(), REPETITION)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# The longest name of a folder is 255 bytes, and a cell's name has all its coordinates.
MOST_CHARACTERS = 60


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Attributes:
        name: of the value.
        entry: what the file says of it: flags, or what a flag is set to.
    """

    name: str
    entry: Entry


@dataclass(frozen=True)
class Axis:
    """One axis of the matrix.

    Attributes:
        coordinate: what its values are of: a model, a server, …
        values: at least one, each of another name.
    """

    coordinate: str
    values: Sequence[Value]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    @property
    def names(self) -> list[str]:
        """The names of the values."""
        return [value.name for value in self.values]

    def named(self, entry: Entry) -> str:
        """Return the name that an entry holds.

        Raises:
            CampaignFileError: no value has it.
        """
        name = str(entry.value)
        if isinstance(entry.value, list | dict) or name not in self.names:
            entry.fail(f"{entry.text} is no {self.coordinate} of this file{suggestion(name, self.names)}")
        return name


def read_axis(key: str, entry: Entry) -> Axis:
    """Read an axis: a list of values, or a mapping of names to values.

    Args:
        key: under which the file has it.
        entry: what stands there.

    Raises:
        CampaignFileError: it is neither, holds none, or two of one name.
    """
    coordinate = AXES[key]
    if isinstance(entry.value, dict):
        values = [Value(_checked(name, each), each) for name, each in entry.value.items()]
    else:
        values = [_of_list(coordinate, each) for each in entry.sequence(f"`{key}`")]
    if not values:
        entry.fail(f"`{key}` names none: leave it away, or name one")
    seen: dict[str, int] = {}
    for value in values:
        if value.name in seen:
            value.entry.fail(
                f"two cells would have one name: a {coordinate} is called {value.name} here and in line "
                f"{seen[value.name]}; give one of them another name, as `NAME: {value.entry.text}`"
            )
        seen[value.name] = value.entry.line
    return Axis(coordinate, values)


def repetitions(count: int, entry: Entry) -> Axis:
    """Return the axis of so many repetitions of each cell."""
    return Axis(REPETITION, [Value(f"r{number}", entry) for number in range(1, count + 1)])


def _of_list(coordinate: str, entry: Entry) -> Value:
    if isinstance(entry.value, dict):
        if len(entry.value) != 1:
            entry.fail(f"a {coordinate} has to be one value, or `NAME: value`, and is {entry.text}")
        ((name, value),) = entry.value.items()
        return Value(_checked(name, value), value)
    if isinstance(entry.value, list) or entry.value in (None, ""):
        entry.fail(f"a {coordinate} has to be one value, or `NAME: value`, and is {entry.text}")
    return Value(_checked(_name_of(str(entry.value)), entry), entry)


def _name_of(value: str) -> str:
    """Name a value: a folder and a hub id by their last part."""
    last = value.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")


def _checked(name: str, entry: Entry) -> str:
    if not NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
        entry.fail(
            f"{quoted(name)} cannot be a name: letters, digits, `.`, `_` and `-` can, {MOST_CHARACTERS} at "
            f"most, since cells' folders are called after them, joined by `{JOINT}`; write `NAME: value`"
        )
    return name
