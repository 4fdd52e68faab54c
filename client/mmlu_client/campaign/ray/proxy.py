"""A lane's worker on a Ray cluster: an actor there makes the runs, and what comes back is written here."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from trt_common.one_line import cannot_read
from trt_common.version import version

from mmlu_client.campaign.cell import Cell, Resources, ServerSetting
from mmlu_client.campaign.cell_state import CELL
from mmlu_client.campaign.choices import RAY
from mmlu_client.campaign.ray.actor import CellActor, News
from mmlu_client.campaign.ray.changes import append, files_of, write_changes
from mmlu_client.campaign.ray.cluster import options, reason
from mmlu_client.campaign.ray.inputs import Input
from mmlu_client.campaign.worker import Ending, Watch
from mmlu_client.errors import RunError

POLL_SECONDS = 1.0
# A server and a client that are told to end may take a minute and a half; then the actor is killed.
STOP_SECONDS = 100.0
# A worker whose resources are free starts within some seconds. Ray does not tell that they are not.
START_SECONDS = 5.0
# So long a cell waits for a machine that the cluster has lost.
LOST_SECONDS = 60.0
# A worker that has had nothing to do for so long lets another one have its resources.
IDLE_SECONDS = 3.0


class Resourceful(Protocol):
    """Knows what a cluster has."""

    def has_room(self, need: Resources) -> bool:
        """Return whether a machine has these resources, in use or not."""
        ...

    def free_idle(self) -> None:
        """End the actors that have nothing to do."""
        ...

    def inputs(self, cell: Cell) -> list[Input]:
        """Return what travels with a cell."""
        ...


class RayWorker:
    """Makes cells' runs in an actor, and in a new one where that is lost, or the server is another."""

    def __init__(self, cluster: Resourceful, server_log: Callable[[ServerSetting], Path]) -> None:
        """Prepare to start actors.

        Args:
            cluster: where they are started.
            server_log: the file that holds what a server says.
        """
        self._cluster = cluster
        self._server_log = server_log
        self._actor: Any = None
        self._setting: ServerSetting | None = None
        self._where = RAY
        self._idle_since = time.monotonic()
        # Held while a cell is run: what is idle may be ended by another lane.
        self._in_use = threading.Lock()

    @property
    def where(self) -> str:
        """The machine that the actor is on, as far as there is one."""
        return self._where

    def measure(self, cell: Cell, folder: Path, watch: Watch, is_stopped: Callable[[], bool]) -> Ending:
        """Make the run of a cell, or go on with it. See `Worker`."""
        with self._in_use:
            try:
                return self._measure(cell, folder, watch, is_stopped)
            except RayError as error:
                return Ending(None, self._lost(error))
            except OSError as error:
                raise RunError(cannot_read(error)) from None
            finally:
                self._idle_since = time.monotonic()

    def close(self) -> None:
        """End the actor, and its server."""
        with self._in_use:
            self._end_actor()

    def free(self) -> None:
        """End an actor that has had nothing to do for some time. Another thread may call it."""
        if self._in_use.acquire(blocking=False):
            try:
                if time.monotonic() - self._idle_since > IDLE_SECONDS:
                    self._end_actor()
            finally:
                self._in_use.release()

    def _measure(self, cell: Cell, folder: Path, watch: Watch, is_stopped: Callable[[], bool]) -> Ending:
        if self._setting != cell.setting:
            self._end_actor()
        if self._actor is None:
            trouble = self._start_actor(cell.setting, watch, is_stopped)
            if trouble is not None:
                return trouble
        watch.begins(self._where)
        files = files_of(folder, without=(CELL,))
        begun = self._actor.begin.remote(cell, files, self._cluster.inputs(cell))
        self._wait(begun, is_stopped)
        is_told = False
        while True:
            news: News = self._wait(self._actor.news.remote(), is_stopped)
            self._write(news, folder)
            watch.answered(news.answered)
            if news.ending is not None:
                return news.ending
            if is_stopped() and not is_told:
                is_told = True
                self._actor.stop.remote()

    def _start_actor(
        self, setting: ServerSetting, watch: Watch, is_stopped: Callable[[], bool]
    ) -> Ending | None:
        """Start an actor as soon as the cluster has room for it; return why that ends without one."""
        need = setting.resources
        kind = ray.remote(CellActor).options(**options(need), max_restarts=0, max_task_retries=0)
        self._actor, self._setting = kind.remote(need, version()), setting
        where, lacking_since = self._actor.where.remote(), None
        asked = time.monotonic()
        while not ray.wait([where], timeout=POLL_SECONDS)[0]:
            now = time.monotonic()
            has_room = self._cluster.has_room(need)
            lacking_since = None if has_room else lacking_since or now
            if is_stopped():
                self._kill()
                return Ending(None, "stopped")
            if lacking_since is not None and now - lacking_since > LOST_SECONDS:
                self._kill()
                return Ending(None, "no machine of the Ray cluster has its resources any more", True)
            if now - asked > START_SECONDS:
                watch.waits()
            self._cluster.free_idle()
        try:
            self._where = ray.get(where)
        except RayError as error:
            return Ending(None, self._lost(error), is_server_lost=True)
        return None

    def _wait(self, reference: Any, is_stopped: Callable[[], bool]) -> Any:
        """Return what an actor's method returns; kill an actor that does not end when it is told to.

        Raises:
            RayError: the actor is lost.
        """
        deadline = None
        while not ray.wait([reference], timeout=POLL_SECONDS)[0]:
            if deadline is None and is_stopped():
                deadline = time.monotonic() + STOP_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
        return ray.get(reference)

    def _write(self, news: News, folder: Path) -> None:
        assert self._setting is not None
        append(self._server_log(self._setting), news.server_log)
        write_changes(folder, news.changes)

    def _end_actor(self) -> None:
        if self._actor is None:
            return
        assert self._setting is not None
        with contextlib.suppress(RayError, GetTimeoutError):
            news: News = ray.get(self._actor.close.remote(), timeout=STOP_SECONDS)
            append(self._server_log(self._setting), news.server_log)
        self._kill()

    def _lost(self, error: RayError) -> str:
        """Give a lost actor up, and say in one line how it was lost."""
        where = self._where
        self._kill()
        if not isinstance(error, RayActorError):
            return f"{where}: {reason(error)}"
        said = str(error)
        if "creation task" in said or "error raised in" in said:
            return f"its worker does not start on the Ray cluster: {last_line(said)}"
        how = "ran out of memory" if "low on memory" in said else "was killed, or its machine was lost"
        return f"its worker on {where} {how}"

    def _kill(self) -> None:
        if self._actor is not None:
            with contextlib.suppress(RayError, ValueError):
                ray.kill(self._actor)
        self._actor, self._setting, self._where = None, None, RAY


def last_line(text: str) -> str:
    """Return the last line of a text that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
