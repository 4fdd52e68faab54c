"""The watch over the servers' devices while a run is on, which fills device.jsonl."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmlu_client.errors import RunError
from mmlu_client.rundir.device_log import Reading, append_readings
from mmlu_client.service.remote_server import RemoteServer

INTERVAL_SECONDS = 1.0
CALL_SECONDS = 5.0


class DeviceWatch:
    """Asks every server for its devices' readings about once a second, as an async context manager.

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

    async def __aenter__(self) -> DeviceWatch:
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
        try:
            append_readings(self._path, readings)
        except OSError as error:
            if not self.lost:
                self._say(f"readings of devices are lost: cannot write {self._path}: {error.strerror}")
            self.lost += len(readings)
