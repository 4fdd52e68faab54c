"""Assembled work, and turns to measure in, on their way to the engines of one queue."""

from __future__ import annotations

import threading
from collections import deque

from trt_server.scheduling.peak_turn import PeakTurn
from trt_server.scheduling.work import Work


class ReadyWork:
    """As much as the engines hold, and no more: later requests stay in the queue, where callers may leave.

    An engine that has nothing to do goes before one that could take more on top of its own.
    """

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self._depth = 1
        self._idle = 0
        self._waiting: deque[Work | PeakTurn] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def make_room(self, depth: int) -> None:
        """For the batches that an engine holds: one that goes on to its next finds it ready."""
        self._depth = depth

    def wait_for_room(self) -> bool:
        """Whether there still is an engine; returns once more may be put."""
        with self._changed:
            self._changed.wait_for(lambda: not self._engines or self._has_room())
            return self._engines > 0

    def put(self, work: Work | PeakTurn) -> bool:
        """False: it is not taken, there is no engine left, or nothing more to come."""
        with self._changed:
            is_taken = self._engines > 0 and not self._closed
            if is_taken:
                self._waiting.append(work)
                self._changed.notify_all()
            return is_taken

    def close(self) -> None:
        """None will be put any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> Work | PeakTurn | None:
        """For an engine that has nothing to do: wait for some. None: closed, and all is taken."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._idle -= 1
            return self._next()

    def take_another(self) -> Work | PeakTurn | None:
        """For an engine that has work: some where more is ready than idle engines will take."""
        with self._changed:
            return self._next() if len(self._waiting) > self._idle else None

    def leave(self) -> list[Work | PeakTurn] | None:
        """One engine less from now on; what waited where it was the last, else None."""
        with self._changed:
            self._engines -= 1
            self._changed.notify_all()
            if self._engines:
                return None
            left, self._waiting = list(self._waiting), deque()
            return left

    def _has_room(self) -> bool:
        return len(self._waiting) < self._engines * self._depth

    def _next(self) -> Work | PeakTurn | None:
        if not self._waiting:
            return None
        self._changed.notify_all()
        return self._waiting.popleft()
