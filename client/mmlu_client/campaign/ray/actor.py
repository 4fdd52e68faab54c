"""The worker of a lane on a machine of the cluster: a Ray actor with a server and its cells."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from trt_common.one_line import reason_of
from trt_common.version import version

from mmlu_client.campaign.cell import Cell, Resources
from mmlu_client.campaign.local.share import Share
from mmlu_client.campaign.local.worker import LocalWorker
from mmlu_client.campaign.ray.changes import Changes, WatchedFolder, write_files
from mmlu_client.campaign.ray.cluster import cpus_of, node_name
from mmlu_client.campaign.ray.cores import claim_cores
from mmlu_client.campaign.ray.inputs import Input, unpack, with_inputs
from mmlu_client.campaign.ray.node_folder import node_folder
from mmlu_client.campaign.tail import Tail
from mmlu_client.campaign.worker import Ending, Watch

# How long a call waits for something new.
NEWS_SECONDS = 1.0
THREADS = "threads"


@dataclass(frozen=True)
class News:
    """What has happened since the last news.

    Attributes:
        changes: of the cell's folder.
        server_log: what the server has said.
        answered: how many questions of the cell are answered.
        ending: of the attempt; None while it is on.
    """

    changes: Changes
    server_log: bytes
    answered: int
    ending: Ending | None


class CellActor:
    """Holds a worker in a folder of its own.

    Ray calls it from one thread; the worker has another, which lives as long as the process, since what it
    starts ends with the thread that started it.
    """

    def __init__(self, need: Resources, client_version: str) -> None:
        """Make the folder.

        Args:
            need: what Ray has set apart for it.
            client_version: that of the package on the campaign's machine.

        Raises:
            OSError: the folder cannot be made.
            RuntimeError: another version is installed here.
        """
        if version() != client_version:
            raise RuntimeError(f"trt-server {version()} is installed there, and {client_version} here")
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(node_folder())
        # Inputs are named by paths relative to it.
        os.chdir(self._folder)
        self._where, cores = self._place(need)
        self._threads = cpus_of(need) if cores is None else None
        self._log = Tail(self._folder / "server.log")
        # Without GPUs of its own it sees none; with some, Ray has named them to this process.
        share = Share(self._where, cores, None if need.gpus else ())
        self._worker = LocalWorker(share, lambda _: self._log.path)
        self._is_stopped = threading.Event()
        self._attempt: _Attempt | None = None
        self._thread = _Thread()

    def where(self) -> str:
        """Return the name of the machine."""
        return self._where

    def begin(self, cell: Cell, files: Mapping[str, bytes], inputs: list[Input]) -> None:
        """Begin an attempt.

        Args:
            cell: what is run.
            files: what earlier attempts left, by their paths in the cell's folder.
            inputs: the local files that it names.

        Raises:
            OSError: they cannot be written.
        """
        cells = self._folder / "cells"
        shutil.rmtree(cells, ignore_errors=True)
        folder = cells / cell.name
        write_files(folder, files)
        unpack(self._folder, inputs, ray.get)
        attempt = self._attempt = _Attempt(folder)
        here = self._bounded(with_inputs(cell, inputs))
        self._thread.do(lambda: attempt.make(self._worker, here, self._is_stopped.is_set))

    def news(self) -> News:
        """Return what is new, after a second, or at the attempt's end."""
        if self._attempt is not None:
            self._attempt.ended.wait(NEWS_SECONDS)
        return self._news()

    def stop(self) -> None:
        """Let the attempt end early, with the figures of what it has."""
        self._is_stopped.set()

    def close(self) -> News:
        """End the server, remove the folder, and return the last news."""
        self._is_stopped.set()
        self._thread.do(self._worker.close)
        self._thread.join()
        news = self._news()
        self._stack.close()
        return news

    def _news(self) -> News:
        attempt = self._attempt
        if attempt is None:
            return News(Changes(), self._log.new(), 0, None)
        # First: what is read after an end is all there is.
        ending = attempt.ending if attempt.ended.is_set() else None
        return News(attempt.watched.changes(), self._log.new(), attempt.answered, ending)

    def _place(self, need: Resources) -> tuple[str, list[int] | None]:
        """Return the machine's name, and the cores that this worker has to itself; None: any."""
        mine = ray.get_runtime_context().get_node_id()
        node = next(each for each in ray.nodes() if each["NodeID"] == mine)
        # Of a part of the machine's cores, nobody knows which: a container's quota names none.
        has_all = node["Resources"].get("CPU", 0) == len(os.sched_getaffinity(0))
        return node_name(node), claim_cores(cpus_of(need)) if has_all else None

    def _bounded(self, cell: Cell) -> Cell:
        """Return a cell whose server has as many threads as CPUs, where it has no cores of its own."""
        setting = cell.setting
        if self._threads is None or not setting.is_started or THREADS in setting.flags:
            return cell
        return replace(cell, setting=replace(setting, flags={**setting.flags, THREADS: self._threads}))


class _Attempt:
    """One attempt of a cell, which one thread makes and another one watches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watched = WatchedFolder(folder)
        self.answered = 0
        self.ended = threading.Event()
        self.ending = Ending(None, None)

    def make(self, worker: LocalWorker, cell: Cell, is_stopped: Callable[[], bool]) -> None:
        try:
            self.ending = worker.measure(cell, self.folder, Watch(self._take), is_stopped)
        except Exception as error:
            self.ending = Ending(None, reason_of(error))
        finally:
            self.ended.set()

    def _take(self, answered: int) -> None:
        self.answered = answered


class _Thread:
    """Does one thing after the other, in a thread that does not keep the process alive."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="cells", daemon=True)
        self._thread.start()

    def do(self, what: Callable[[], None]) -> None:
        self._todo.put(what)

    def join(self) -> None:
        self._todo.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (what := self._todo.get()) is not None:
            what()
