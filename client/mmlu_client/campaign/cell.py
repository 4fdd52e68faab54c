"""A cell of a campaign: one run, and the server that it asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

# Flags by their names without dashes, and the value of each: a text, a number, a boolean, or a list of these.
Flags: TypeAlias = Mapping[str, Any]

# What joins the coordinates in a name; no name of a value may have it.
JOINT = "+"
# The flag that names a server's model.
MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a server and the client that asks it need together.

    Attributes:
        cpus: cores; None: all of the machine, or of the lane's share.
        gpus: GPUs; 0: none are set apart.
    """

    cpus: int | None = None
    gpus: int = 0


@dataclass(frozen=True, kw_only=True)
class ServerSetting:
    """A server as a campaign's file describes it.

    Attributes:
        name: unique in the campaign: the names of its model and its flags.
        flags: those that trt-server is started with; empty for one that runs already.
        url: of a server that runs already, as `mmlu-client --url` takes it; None: it is started.
        resources: what it needs, with the client that asks it.
        line: where the file describes it.
        lines: where the file has each of the flags.
    """

    name: str
    flags: Flags
    url: str | None
    resources: Resources
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, compare=False)

    def line_of(self, what: str) -> int:
        """Return the line that a refusal in these words is about.

        It is that of the first flag that the words name, or of the model that they name.
        """
        for name, line in self.lines.items():
            if f"--{name}" in what or (name == MODEL and str(self.flags[MODEL]) in what):
                return line
        return self.line

    @property
    def is_started(self) -> bool:
        """Whether the campaign starts it."""
        return self.url is None

    @property
    def words(self) -> list[str]:
        """The arguments of trt-server."""
        return words(self.flags)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a campaign.

    Attributes:
        name: its coordinates, joined; its folder has this name.
        coordinates: the name of its value by axis: model, server, workload, prompt-format, load, repetition.
        setting: the server that it asks.
        flags: those of mmlu-client, without the server's address and the folder.
        line: where the file says what it asks.
    """

    name: str
    coordinates: Mapping[str, str]
    setting: ServerSetting
    flags: Flags
    line: int

    @property
    def words(self) -> list[str]:
        """The arguments of mmlu-client, without the server's address and the folder."""
        return words(self.flags)

    @property
    def definition(self) -> dict[str, Any]:
        """What the cell is, as JSON holds it: cells with equal ones are the same."""
        return {
            "coordinates": dict(self.coordinates),
            "server": {"name": self.setting.name, "url": self.setting.url, "flags": dict(self.setting.flags)},
            "client": {"flags": dict(self.flags)},
        }


def words(flags: Flags) -> list[str]:
    """Return the words of a command line that set these flags."""
    found: list[str] = []
    for name, value in flags.items():
        if value is True:
            found.append(f"--{name}")
        elif isinstance(value, list):
            found += [f"--{name}", *map(str, value)]
        elif value is not False and value is not None:
            # Together: a value may begin with a dash.
            found.append(f"--{name}={value}")
    return found
