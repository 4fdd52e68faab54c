"""FILE.yaml → the campaign that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_common.command_line.nearest import suggestion

from mmlu_client.campaign.cell import JOINT, Cell, Resources, ServerSetting
from mmlu_client.campaign.file.axis import (
    AXES,
    LOAD,
    MODEL,
    PROMPT_FORMAT,
    REPETITION,
    SERVER,
    WORKLOAD,
    Axis,
    read_axis,
    repetitions,
)
from mmlu_client.campaign.file.client_flags import OF_SERVER, ClientFlags
from mmlu_client.campaign.file.flags import can_be_argument
from mmlu_client.campaign.file.matrix import Coordinates, Matrix, check_count
from mmlu_client.campaign.file.server_flags import server_flags
from mmlu_client.campaign.file.yaml_file import Entry, read_yaml

NAME, MATRIX, EXCLUDE, INCLUDE, REPETITIONS = "name", "matrix", "exclude", "include", "repetitions"
SERVER_FLAGS, CLIENT_FLAGS = "server-flags", "client-flags"
ATTEMPTS, RESOURCES, BASELINE = "attempts", "resources", "baseline"
KEYS = (
    NAME, *AXES, REPETITIONS, MATRIX, EXCLUDE, INCLUDE, SERVER_FLAGS, CLIENT_FLAGS, ATTEMPTS, RESOURCES,
    BASELINE,
)  # fmt: skip
URL = "url"
# How often a cell is tried in one start of the campaign, where the file does not say.
DEFAULT_ATTEMPTS = 3
# The server of a file that names none.
THE_SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What a campaign's file describes.

    Attributes:
        path: the file.
        name: what pages and metrics call it.
        content: the file's values, as JSON holds them.
        cells: each with another name, in the file's order.
        attempts: how often a cell is tried in one start of the campaign.
        baseline: the coordinates of the cells that others are compared with; empty: none.
    """

    path: Path
    name: str
    content: Mapping[str, Any]
    cells: Sequence[Cell]
    attempts: int
    baseline: Coordinates

    @property
    def settings(self) -> list[ServerSetting]:
        """The servers that the cells ask, each once."""
        return list({cell.setting.name: cell.setting for cell in self.cells}.values())

    def baseline_of(self, cell: Cell) -> Cell | None:
        """Return the cell that another is compared with; None for one that is compared with none."""
        if not self.baseline:
            return None
        wanted = {**cell.coordinates, **self.baseline}
        found = next((each for each in self.cells if each.coordinates == wanted), None)
        return None if found is cell else found


def read_campaign(path: Path) -> Campaign:
    """Read and check a campaign's file.

    Whether there are the models that it names, trt-server says (`places`).

    Raises:
        InputError: it cannot be read, or something in it is wrong; the message names the line.
    """
    return _File(path, read_yaml(path)).campaign()


class _File:
    """Reads the values of one file."""

    def __init__(self, path: Path, root: Entry) -> None:
        self._path = path
        self._root = root
        entries = root.mapping("a campaign")
        for key, each in entries.items():
            if key not in KEYS:
                each.fail(f"`{key}` is no key of a campaign{suggestion(key, KEYS)}")
        self._entries = entries
        self._client_flags = ClientFlags(path.parent)
        self._axes = {AXES[key]: read_axis(key, entries[key]) for key in AXES if key in entries}

    def campaign(self) -> Campaign:
        """Return what the file describes.

        Raises:
            CampaignFileError: something in it is wrong.
        """
        attempts = self._count(ATTEMPTS, DEFAULT_ATTEMPTS)
        count = self._count(REPETITIONS, 1)
        check_count(count, self._entry(REPETITIONS))
        self._axes[REPETITION] = repetitions(count, self._entry(REPETITIONS))
        matrix = Matrix(
            self._axes,
            frozenset(value.name for value in self._values(SERVER) if _has(value.entry, URL)),
            frozenset(value.name for value in self._values(WORKLOAD) if _has(value.entry, "task")),
        )
        found = matrix.cells(self._entry(MATRIX), self._entry(EXCLUDE), self._entry(INCLUDE))
        if not found:
            self._root.fail("no cell is left: `exclude` leaves nothing, and `include` adds nothing")
        settings: dict[str, ServerSetting] = {}
        cells = [self._cell(coordinates, settings) for coordinates in found]
        for cell in cells:
            self._client_flags.check_together(cell, self._path)
        return Campaign(
            path=self._path,
            name=self._name(),
            content=self._root.plain or {},
            cells=cells,
            attempts=attempts,
            baseline=self._baseline(matrix, cells),
        )

    def _entry(self, key: str) -> Entry:
        return self._entries.get(key, Entry(self._path, 1, None))

    def _values(self, coordinate: str) -> Axis | tuple[()]:
        return self._axes.get(coordinate, ())

    def _value(self, coordinate: str, coordinates: Coordinates) -> Entry | None:
        """Return what the file says of a cell's value on an axis; None where it has none."""
        name = coordinates.get(coordinate)
        return next((value.entry for value in self._values(coordinate) if value.name == name), None)

    def _name(self) -> str:
        entry = self._entry(NAME)
        if isinstance(entry.value, list | dict):
            entry.fail(f"`{NAME}` has to be a text, and is {entry.text}")
        return self._path.stem if entry.is_empty else str(entry.value)

    def _count(self, key: str, default: int) -> int:
        return default if key not in self._entries else _natural(self._entries[key], key, 1)

    def _cell(self, coordinates: Coordinates, settings: dict[str, ServerSetting]) -> Cell:
        setting = self._setting(coordinates)
        setting = settings.setdefault(setting.name, setting)
        flags: dict[str, Any] = {}
        line = self._root.line
        parts = [(self._entry(CLIENT_FLAGS), f"`{CLIENT_FLAGS}`")]
        if not setting.is_started:
            server = self._value(SERVER, coordinates)
            assert server is not None
            flags |= self._client_flags.read(
                _without(server, URL, RESOURCES), "a server with `url`", OF_SERVER
            )
        parts += [
            (entry, f"a {coordinate}")
            for coordinate in (WORKLOAD, PROMPT_FORMAT, LOAD)
            if (entry := self._value(coordinate, coordinates)) is not None
        ]
        for entry, what in parts:
            if what == f"a {PROMPT_FORMAT}":
                entry = Entry(entry.path, entry.line, {PROMPT_FORMAT: entry})
            flags |= self._client_flags.read(entry, what)
            line = entry.line if what == f"a {WORKLOAD}" else line
        return Cell(
            name=JOINT.join(coordinates.values()),
            coordinates=coordinates,
            setting=setting,
            flags=flags,
            line=line,
        )

    def _setting(self, coordinates: Coordinates) -> ServerSetting:
        server, model = self._value(SERVER, coordinates), self._value(MODEL, coordinates)
        names = [coordinates[each] for each in (MODEL, SERVER) if each in coordinates]
        line = (server or model or self._entry(SERVER_FLAGS)).line
        resources = self._resources(server)
        if server is not None and _has(server, URL):
            return ServerSetting(
                name=JOINT.join(names), flags={}, url=_url(server), resources=resources, line=line
            )
        parts = [(self._entry(SERVER_FLAGS), f"`{SERVER_FLAGS}`")]
        if model is not None:
            is_flags = isinstance(model.value, dict)
            parts.append((model if is_flags else Entry(model.path, model.line, {MODEL: model}), "a model"))
        if server is not None:
            own = _without(server, RESOURCES)
            if model is not None and _has(own, MODEL):
                own.value[MODEL].fail("a server has `model`, and `models` names models too: leave one away")
            parts.append((own, "a server"))
        flags: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for entry, what in parts:
            flags |= server_flags(entry, self._path.parent, what)
            lines |= {name: each.line for name, each in entry.mapping(what).items()}
        return ServerSetting(
            name=JOINT.join(names) or THE_SERVER,
            flags=flags,
            url=None,
            resources=resources,
            line=line,
            lines=lines,
        )

    def _resources(self, server: Entry | None) -> Resources:
        """Return the resources of all servers, with those of this one put over them."""
        found: dict[str, int] = {}
        own = server.value[RESOURCES] if server is not None and _has(server, RESOURCES) else None
        for entry in (self._entry(RESOURCES), own):
            for key, each in entry.mapping(f"`{RESOURCES}`").items() if entry is not None else ():
                if key not in ("cpus", "gpus"):
                    each.fail(f"`{key}` is no resource: cpus and gpus are")
                found[key] = _natural(each, key, 1 if key == "cpus" else 0)
        return Resources(**found)

    def _baseline(self, matrix: Matrix, cells: Sequence[Cell]) -> Coordinates:
        entry = self._entry(BASELINE)
        if entry.is_empty:
            return {}
        wanted = matrix.selection(entry)
        for names in wanted.values():
            if len(names) != 1:
                entry.fail(f"`{BASELINE}` has to name one value of each coordinate, and is {entry.text}")
        baseline = {coordinate: names[0] for coordinate, names in wanted.items()}
        if not any(baseline.items() <= cell.coordinates.items() for cell in cells):
            entry.fail(f"no cell is {entry.text}: correct `{BASELINE}`, or leave it away")
        return baseline


def _has(entry: Entry, key: str) -> bool:
    return isinstance(entry.value, dict) and key in entry.value


def _without(entry: Entry, *keys: str) -> Entry:
    """Return a mapping without some keys; anything else as it is."""
    if not isinstance(entry.value, dict):
        return entry
    return Entry(entry.path, entry.line, {key: each for key, each in entry.value.items() if key not in keys})


def _url(server: Entry) -> str:
    entry: Entry = server.value[URL]
    if not isinstance(entry.value, str) or not entry.value or not can_be_argument(entry.value):
        entry.fail(f"`{URL}` has to be an address, like localhost:8001, and is {entry.text}")
    return entry.value


def _natural(entry: Entry, key: str, least: int) -> int:
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        entry.fail(f"`{key}` has to be a whole number from {least}, and is {entry.text}")
    return value
