"""Assembled batches between the thread that makes them and the engines of one queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from trt_server.engines.engine import Batch
from trt_server.request import ScoringRequest


@dataclass(frozen=True)
class AssembledBatch:
    """requests: their prompts are the batch's rows, one request after the other."""

    requests: Sequence[ScoringRequest]
    batch: Batch
    assemble_ns: int


class ReadyBatches:
    """One for each engine at most: what is asked later stays in the queue, where its caller may still leave.

    An engine that has nothing to do goes before one that could take another batch on top of its own.
    """

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self._idle = 0
        self._waiting: deque[AssembledBatch] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def wait_for_room(self) -> bool:
        """Whether there still is an engine; returns once one more batch may be put."""
        with self._changed:
            self._changed.wait_for(lambda: not self._engines or len(self._waiting) < self._engines)
            return self._engines > 0

    def put(self, batch: AssembledBatch) -> bool:
        """False: it is not taken, there is no engine left."""
        with self._changed:
            if self._engines:
                self._waiting.append(batch)
                self._changed.notify_all()
            return self._engines > 0

    def close(self) -> None:
        """None will be put any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> AssembledBatch | None:
        """For an engine that has nothing to do: wait for a batch. None: closed, and all are taken."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._idle -= 1
            return self._next()

    def take_another(self) -> AssembledBatch | None:
        """For an engine that has work: a batch where more are ready than idle engines will take."""
        with self._changed:
            return self._next() if len(self._waiting) > self._idle else None

    def leave(self) -> list[AssembledBatch] | None:
        """One engine less from now on; what waited where it was the last, else None."""
        with self._changed:
            self._engines -= 1
            self._changed.notify_all()
            if self._engines:
                return None
            left, self._waiting = list(self._waiting), deque()
            return left

    def _next(self) -> AssembledBatch | None:
        if not self._waiting:
            return None
        self._changed.notify_all()
        return self._waiting.popleft()
