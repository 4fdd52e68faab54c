"""device.jsonl: what the servers' devices told while a run was on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trt_common.private_file import open_private

from mmlu_client.errors import InputError, RunError
from mmlu_client.rundir.whole_lines import append_lines, cut_torn_line
from mmlu_client.service.model import Device
from mmlu_client.service.remote_server import RemoteServer

INTERVAL_SECONDS = 1.0
CALL_SECONDS = 5.0


@dataclass(frozen=True)
class Reading:
    """This is what one server said of one device.

    Attributes:
        phase: VAL or INFER.
        session: which start of the client, from 0.
        server: the server's name.
        monotonic_ns: when the answer came, in nanoseconds of the client's monotonic clock.
        device: the readings.
    """

    phase: str
    session: int
    server: str
    monotonic_ns: int
    device: Device

    @property
    def device_key(self) -> str:
        """The device's identity, the same for every server that is on it, where it is known."""
        return self.device.id or f"{self.server} {self.device.name}"


class DeviceLog:
    """This asks every server for its devices' readings about once a second, as an async context manager.

    Attributes:
        lost: how many readings could not be written.
    """

    def __init__(
        self,
        path: Path,
        servers: Sequence[RemoteServer],
        phase: str,
        session: int,
        say: Callable[[str], None],
    ) -> None:
        self.lost = 0
        self._path = path
        self._servers = servers
        self._phase = phase
        self._session = session
        self._say = say
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DeviceLog:
        await self._read()
        self._task = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._read()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self._read()

    async def _read(self) -> None:
        await asyncio.gather(*map(self._read_one, self._servers))

    async def _read_one(self, server: RemoteServer) -> None:
        try:
            model = await server.connection.model(CALL_SECONDS)
        except RunError:  # a server that is away has no readings
            return
        now = time.monotonic_ns()
        self._append(
            [Reading(self._phase, self._session, server.name, now, device) for device in model.devices]
        )

    def _append(self, readings: Sequence[Reading]) -> None:
        """Write the readings.

        What the disk does not take is lost: the run's answers are worth more than its readings.
        """
        lines = "".join(json.dumps(asdict(reading), separators=(",", ":")) + "\n" for reading in readings)
        try:
            with open(self._path, "ab", buffering=0, opener=open_private) as file:
                append_lines(file, lines)
        except OSError as error:
            if not self.lost:
                self._say(f"readings of devices are lost: cannot write {self._path}: {error.strerror}")
            self.lost += len(readings)


def reopen_device_log(path: Path, *, keep: bool) -> None:
    """Prepare the file that an earlier start left.

    Args:
        path: the file.
        keep: whether readings are appended to its whole lines; otherwise it is deleted.

    Raises:
        RunError: it cannot be written.
    """
    if not path.exists():
        return
    try:
        if keep:
            cut_torn_line(path)
        else:
            path.unlink()
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def read_device_log(path: Path) -> tuple[list[Reading], int]:
    """Read the readings.

    Returns:
        Every reading, and how many lines are none. There are none of both where there is no such file.

    Raises:
        InputError: the file cannot be read.
    """
    if not path.exists():
        return [], 0
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    readings = [_reading(line) for line in lines if line.endswith(b"\n")]
    known = [reading for reading in readings if reading is not None]
    return known, len(readings) - len(known)


def joules(readings: Sequence[Reading], phase: str) -> float | None:
    """Add up the energy that the devices took in a phase, in joules.

    None where one of them has no counter.
    """
    counters: dict[tuple[int, str], list[float | None]] = {}
    for reading in readings:
        if reading.phase == phase:
            key = (reading.session, reading.device_key)
            counters.setdefault(key, []).append(reading.device.energy_joules)
    total = 0.0
    for values in counters.values():
        if len(values) < 2 or (first := values[0]) is None or (last := values[-1]) is None:
            return None
        total += last - first
    return total if counters else None


def _reading(line: bytes) -> Reading | None:
    """Read one line; None where it is no reading, but half of one, or what a disk left of it."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return Reading(**{**fields, "device": Device(**fields["device"])})
    except (ValueError, KeyError, TypeError):
        return None
