"""device.jsonl: what the servers' devices told while a run was on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmlu_client.errors import InputError, RunError
from mmlu_client.lane import Server
from mmlu_client.model import Device
from mmlu_client.whole_lines import cut_torn_line

INTERVAL_SECONDS = 1.0
CALL_SECONDS = 5.0


@dataclass(frozen=True)
class Reading:
    """Of one device, by one server. monotonic_ns: the client's clock when the answer came."""

    phase: str
    session: int
    server: str
    monotonic_ns: int
    device: Device

    @property
    def device_key(self) -> str:
        """The same for every server that is on this device, where its identity is known."""
        return self.device.id or f"{self.server} {self.device.name}"


class DeviceLog:
    """Asks every server for its device's readings about once a second. Use as an async context manager."""

    def __init__(self, path: Path, servers: Sequence[Server], phase: str, session: int) -> None:
        self._path = path
        self._servers = servers
        self._phase = phase
        self._session = session
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

    async def _read_one(self, server: Server) -> None:
        with contextlib.suppress(RunError):  # a server that is away has no readings
            model = await server.connection.model(CALL_SECONDS)
            now = time.monotonic_ns()
            readings = [
                Reading(self._phase, self._session, server.name, now, device) for device in model.devices
            ]
            lines = [json.dumps(asdict(reading), separators=(",", ":")) + "\n" for reading in readings]
            _append(self._path, "".join(lines))


def reopen_device_log(path: Path, *, keep: bool) -> None:
    """Make ready what an earlier start left: whole lines to go on behind, or, unless they are kept, nothing.

    Raises RunError.
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


def read_device_log(path: Path) -> list[Reading]:
    """Every whole line; nothing where there is no such file. Raises InputError."""
    if not path.exists():
        return []
    try:
        lines = path.read_text().splitlines(keepends=True)
        return [_reading(json.loads(line)) for line in lines if line.endswith("\n")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def joules(readings: Sequence[Reading], phase: str) -> float | None:
    """Energy the devices took in a phase, each counted once; None where one of them has no counter."""
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


def _append(path: Path, lines: str) -> None:
    try:
        with path.open("a") as file:
            file.write(lines)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None


def _reading(fields: dict[str, Any]) -> Reading:
    return Reading(**{**fields, "device": Device(**fields["device"])})
