"""The progress of a build: bars on a terminal, a log line for each phase elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trt_server.engines.tensorrt.library import trt

log = logging.getLogger(__name__)

# TensorRT 10 and later report a build's progress; 8.6 does not.
_Monitor: Any = getattr(trt, "IProgressMonitor", object)


class BuildProgress(_Monitor):  # type: ignore[misc]
    """The progress monitor that the builder's threads call. Phases are nested, and each has steps."""

    @classmethod
    @contextmanager
    def show(cls, config: trt.IBuilderConfig) -> Iterator[None]:
        """Show the progress of the build with this configuration, where this TensorRT reports it."""
        if _Monitor is object:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
        ) as bars:
            watched: Any = config
            watched.progress_monitor = cls(bars)
            yield

    def __init__(self, bars: Progress) -> None:
        _Monitor.__init__(self)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Show a new phase under its parent."""
        depth = self._depths.get(parent_phase or "", -1) + 1
        self._depths[phase_name] = depth
        if depth <= 1 and self._bars.disable:
            log.info("build: %s", phase_name)
        self._tasks[phase_name] = self._bars.add_task("  " * depth + phase_name, total=num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Show a step as done, and return that the build may go on."""
        if phase_name in self._tasks:
            self._bars.update(self._tasks[phase_name], completed=step + 1)
        return True

    def phase_finish(self, phase_name: str) -> None:
        """Remove a phase that is done."""
        if phase_name in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase_name))
        self._depths.pop(phase_name, None)
