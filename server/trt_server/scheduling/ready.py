"""Assembled work, and measurements of the peak, on their way to the engines of one queue."""

from __future__ import annotations

import threading
from collections import deque

from trt_server.scheduling.peak_turn import PeakTurn
from trt_server.scheduling.work import Work


class ReadyWork:
    """Holds what the engines will take next.

    It holds as many batches as the engines do and no more: later requests stay in the queue, where one whose
    caller goes away costs nothing. An engine that has nothing to do is served before one that could take
    another batch on top of its own.
    """

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self._depth = 1
        self._idle = 0
        self._waiting: deque[Work | PeakTurn] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def make_room(self, depth: int) -> None:
        """Hold `depth` batches for each engine, as many as it holds itself, so that its next one is ready."""
        self._depth = depth

    def wait_for_room(self) -> bool:
        """Wait until more may be put; returns whether there still is an engine."""
        with self._changed:
            self._changed.wait_for(lambda: not self._engines or self._has_room())
            return self._engines > 0

    def put(self, work: Work | PeakTurn) -> bool:
        """Add work; returns False where it is refused, because no engine is left or this is closed."""
        with self._changed:
            is_taken = self._engines > 0 and not self._closed
            if is_taken:
                self._waiting.append(work)
                self._changed.notify_all()
            return is_taken

    def put_back(self, work: Work) -> None:
        """Add work that was taken, to be the next one, because other work comes before it."""
        with self._changed:
            self._waiting.appendleft(work)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse more work; what is here is still given out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def has_work(self) -> bool:
        """Whether there is something to take."""
        return bool(self._waiting)

    def take(self) -> Work | PeakTurn | None:
        """Wait for work, for an engine that has none. None: this is closed, and everything is taken."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed)
            self._idle -= 1
            return self._next()

    def take_another(self) -> Work | PeakTurn | None:
        """Return work for an engine that has some; None where idle engines will take all that is ready."""
        with self._changed:
            return self._next() if len(self._waiting) > self._idle else None

    def leave(self) -> list[Work | PeakTurn] | None:
        """Count one engine less; returns what is left of the work where it was the last, else None."""
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
