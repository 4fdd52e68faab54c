"""The one bounded queue between the gRPC side and the engines."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from trt_server.errors import DrainingError, EngineLostError, QueueFullError
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.request import ScoringRequest

# A caller is told to wait so long before the first request has shown how long one takes.
FIRST_RETRY_SECONDS = 0.1
# The weight of a request in the mean time of a request.
SMOOTHING = 0.1


class RequestQueue:
    """Holds requests, first in, first out, for any thread.

    Attributes:
        limit: How many it holds at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: deque[ScoringRequest] = deque()
        self._expected = 0
        self._changed = threading.Condition()
        self._draining = False
        self._lost: str | None = None
        self._seconds_per_request: float | None = None

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def put(self, request: ScoringRequest) -> None:
        """Accept a request.

        Raises:
            DrainingError: The server takes no new work.
            EngineLostError: An engine has failed for good.
            QueueFullError: As many requests wait as the queue holds.
        """
        with self._changed:
            self._check_room(0)
            request.queued_ns = time.perf_counter_ns()
            self._waiting.append(request)
            self._changed.notify()

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Reserve a place while a request is made ready to be put, so that such requests are bounded too.

        The place counts where others are reserved.

        Raises:
            DrainingError: The server takes no new work.
            EngineLostError: An engine has failed for good.
            QueueFullError: As many requests wait or are made ready as the queue holds.
        """
        with self._changed:
            self._check_room(self._expected)
            self._expected += 1
        try:
            yield
        finally:
            with self._changed:
                self._expected -= 1

    def take(self, batching: Batching) -> list[ScoringRequest]:
        """Wait for the next request whose caller is still there, and for what `batching` merges with it.

        Returns:
            The requests of one batch; none once the queue is drained and empty.
        """
        with self._changed:
            first = self._take_first()
            if first is None:
                return []
            taken = [first]
            deadline = time.monotonic() + batching.max_delay_seconds
            while batching.max_delay_seconds:
                self._take_companions(taken, batching)
                left = deadline - time.monotonic()
                if left <= 0 or self._draining or batching.is_full(taken):
                    break
                self._changed.wait(left)
            return taken

    def _take_first(self) -> ScoringRequest | None:
        while True:
            while self._waiting:
                request = self._waiting.popleft()
                if not request.abandoned:
                    return request
            if self._draining:
                return None
            self._changed.wait()

    def _take_companions(self, taken: list[ScoringRequest], batching: Batching) -> None:
        """Take those with the same prefix, nearest in length first: a batch is padded to the longest."""
        first = taken[0]
        for request in sorted(self._waiting, key=lambda waiting: abs(waiting.longest - first.longest)):
            fits = request.shares_prefix(first) and batching.takes([*taken, request])
            if fits and not request.abandoned:
                self._waiting.remove(request)
                taken.append(request)

    def drain(self) -> None:
        """Refuse new requests; those that were accepted are still given out."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def refuse(self, reason: str) -> None:
        """Refuse new requests because an engine is lost; those that were accepted are still given out."""
        with self._changed:
            self._lost = reason

    def give_up(self) -> list[ScoringRequest]:
        """Return the requests that wait, because no engine is left to take them, and refuse new ones."""
        with self._changed:
            self._draining = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return waiting

    def record_service_seconds(self, seconds: float) -> None:
        """Learn how long a request takes, for the delay that a full queue asks for."""
        previous = self._seconds_per_request
        self._seconds_per_request = (
            seconds if previous is None else previous + SMOOTHING * (seconds - previous)
        )

    def _check_room(self, expected: int) -> None:
        if self._lost is not None:
            raise EngineLostError(self._lost)
        if self._draining:
            raise DrainingError("the server is draining and takes no new work: ask another one")
        if len(self._waiting) + expected >= self.limit:
            self._forget_abandoned()
        if len(self._waiting) + expected >= self.limit:
            raise QueueFullError(
                f"the queue holds {self.limit} requests and is full: "
                "ask again later, or keep fewer in flight",
                self._retry_after_seconds(),
            )

    def _forget_abandoned(self) -> None:
        self._waiting = deque(request for request in self._waiting if not request.abandoned)

    def _retry_after_seconds(self) -> float:
        if self._seconds_per_request is None:
            return FIRST_RETRY_SECONDS
        return self._seconds_per_request * max(1, len(self._waiting) // 2)
