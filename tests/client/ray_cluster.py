"""A Ray cluster of a head and two nodes, as processes on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from waiting import wait_until

STORE_BYTES = 80 * 2**20
WORKER = "ray::CellActor"
CORES = len(os.sched_getaffinity(0))


class RayCluster:
    """Its head has no CPUs; each node has all of this machine, and says that it has a GPU.

    Use as a context manager.
    """

    def __init__(self) -> None:
        # Short: the paths of its sockets are long. Workers' folders are in it too.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._before = os.environ.get("TMPDIR")
        self._nodes: list[Any] = []

    def __enter__(self) -> RayCluster:
        from ray.cluster_utils import Cluster

        os.environ["TMPDIR"] = str(self.folder)
        store = {"object_store_memory": STORE_BYTES}
        head = {**store, "num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            self._nodes.append(self._cluster.add_node(**store, num_cpus=CORES, num_gpus=1))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._cluster.shutdown()
            wait_until(lambda: not list(self.processes()), "Ray's processes do not end")
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self._before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = self._before

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def processes(self) -> Iterator[psutil.Process]:
        """What runs of the cluster, and of what its workers have started."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                is_of_it = process.environ().get("TMPDIR") == str(self.folder)
                if is_of_it and process.status() != psutil.STATUS_ZOMBIE:
                    yield process

    def workers(self) -> list[psutil.Process]:
        """The actors of campaigns."""
        return [process for process in self.processes() if _title(process).startswith(WORKER)]

    def started(self) -> list[psutil.Process]:
        """The servers and clients of campaigns."""
        return [
            process
            for process in self.processes()
            if any(f"/{name} " in _title(process) for name in ("trt-server", "mmlu-client"))
            and "campaign" not in _title(process).split()
        ]

    def worker_files(self, name: str) -> list[Path]:
        """A file of the cell that runs, where the worker has it."""
        return list(self.folder.glob(f"mmlu-client-worker-*/cells/*/{name}"))

    def kill_a_node_with_a_worker(self) -> None:
        """End a node's own process and its workers with SIGKILL, but not what these have started."""
        pids = {process.pid for process in self.workers()}
        for node in self._nodes:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            children = raylet.children()
            if pids & {child.pid for child in children}:
                for process in (raylet, *children):
                    process.kill()
                self._nodes.remove(node)
                return
        raise AssertionError("no node has a worker")


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
