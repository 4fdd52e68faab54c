"""The one bounded queue between the gRPC side and the engines."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trt_server.errors import DrainingError, EngineLostError, LateError, QueueFullError
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.fair_order import FairOrder
from trt_server.scheduling.request import ScoringRequest, Turn
from trt_server.scheduling.speed import BatchSpeed

# A caller is told to wait so long at least, and before the first batch has shown how long one takes.
LEAST_RETRY_SECONDS = 0.1
# A measured speed is taken for the present one for so long; then a request is computed whatever it says.
SPEED_IS_KNOWN_SECONDS = 5.0

# Why requests that came are not computed.
REFUSED_LATE, DROPPED_LATE, ABANDONED, DISPLACED = "refused_late", "dropped_late", "abandoned", "displaced"
NOT_COMPUTED = (REFUSED_LATE, DROPPED_LATE, ABANDONED, DISPLACED)


class RequestQueue:
    """Holds requests for any thread, and gives them out so that each caller gets its share.

    A request whose caller will not wait until it is answered, by the speed of recent batches, is refused, and
    dropped where that shows later.

    Attributes:
        limit: How many it holds at most; one in parts counts once.
        engines: How many compute at the same time what it holds.
        speed: That of the engines.
        not_computed: How many requests were not computed, by the words in NOT_COMPUTED.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.engines = 1
        self.speed = BatchSpeed()
        self.not_computed = Counter(dict.fromkeys(NOT_COMPUTED, 0))
        self._waiting = FairOrder()
        self._depth = 0
        self._taken: list[ScoringRequest] = []
        self._last_taken = time.monotonic()
        self._expected: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._draining = False
        self._lost: str | None = None

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return self._depth

    def put(self, *parts: ScoringRequest) -> None:
        """Accept a request of one caller, in one part or more.

        Where the queue is full, the newest request of the caller with the most of them waiting makes room for
        one of a caller that has fewer.

        Raises:
            DrainingError: The server takes no new work.
            EngineLostError: An engine has failed for good.
            QueueFullError: As many requests wait as the queue holds.
            LateError: Its caller's deadline passes before it can be answered.
        """
        with self._changed:
            self._check_room(parts[0].caller, 0)
            self._check_in_time(parts)
            if self._depth >= self.limit:
                self._displace_one()
            for part in parts:
                part.queued_ns = time.perf_counter_ns()
                self._waiting.add(part)
            self._depth += 1
            self._changed.notify()

    @contextmanager
    def expecting(self, caller: str) -> Iterator[None]:
        """Reserve a place while a request is made ready to be put, so that such requests are bounded too.

        The place counts where others are reserved.

        Raises:
            DrainingError: The server takes no new work.
            EngineLostError: An engine has failed for good.
            QueueFullError: As many requests wait or are made ready as the queue holds.
        """
        with self._changed:
            self._check_room(caller, self._expected.total())
            self._expected[caller] += 1
        try:
            yield
        finally:
            with self._changed:
                self._expected[caller] -= 1
                self._expected = +self._expected

    def take(self, batching: Batching) -> list[ScoringRequest]:
        """Wait for the next request whose caller is still there, and for what `batching` merges with it.

        Returns:
            The requests of one batch; none once the queue is drained and empty.
        """
        with self._changed:
            while (first := self._take_first()) is None:
                if self._draining:
                    return []
                self._changed.wait()
            taken = [first]
            deadline = time.monotonic() + batching.max_delay_seconds
            while batching.max_delay_seconds:
                self._take_companions(taken, batching)
                left = deadline - time.monotonic()
                if left <= 0 or self._draining or batching.is_full(taken):
                    break
                self._changed.wait(left)
            return taken

    def take_before(self, turn: Turn, batching: Batching) -> list[ScoringRequest]:
        """Return what `take` would, without waiting, where its turn is before this one; else nothing."""
        with self._changed:
            first = self._take_first(turn)
            if first is None:
                return []
            taken = [first]
            if batching.max_delay_seconds:
                self._take_companions(taken, batching)
            return taken

    def begin(self, requests: Sequence[ScoringRequest]) -> list[ScoringRequest]:
        """Return those of some requests that were taken which are computed now.

        The others' callers have gone away or will have before they are answered.
        """
        with self._changed:
            now = time.monotonic()
            present = [request for request in requests if not self._drop(request)]
            for request in present:
                request.began = now
                self._waiting.begin(request)
            return present

    def drain(self) -> None:
        """Refuse new requests; those that were accepted are still given out."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def refuse(self, reason: str | None) -> None:
        """Refuse new requests because an engine is lost; those that were accepted are still given out.

        Args:
            reason: What callers are told; None: requests are accepted again.
        """
        with self._changed:
            self._lost = reason

    def give_up(self) -> list[ScoringRequest]:
        """Return the requests that wait, because no engine is left to take them, and refuse new ones."""
        with self._changed:
            self._draining = True
            self._depth = 0
            self._changed.notify_all()
            return self._waiting.clear()

    def _take_first(self, before: Turn | None = None) -> ScoringRequest | None:
        """Take the next one that is computed; None where none waits, or none whose turn is before that."""
        while (request := self._waiting.first) is not None:
            if before is not None and self._waiting.turn_of(request) >= before:
                return None
            if self._drop(request):
                self._remove(request)
            else:
                self._take(request)
                return request
        return None

    def _take_companions(self, taken: list[ScoringRequest], batching: Batching) -> None:
        """Take those with the same prefix, nearest in length first: a batch is padded to the longest."""
        first = taken[0]
        for request in sorted(self._waiting, key=lambda waiting: abs(waiting.longest - first.longest)):
            fits = request.shares_prefix(first) and batching.takes([*taken, request])
            if fits and not self._drop(request):
                self._take(request)
                taken.append(request)

    def _take(self, request: ScoringRequest) -> None:
        self._waiting.take(request)
        self._depth -= request.is_first_part
        self._taken = [each for each in self._taken if not each.is_over]
        self._taken.append(request)
        self._last_taken = time.monotonic()

    def _remove(self, request: ScoringRequest) -> None:
        self._waiting.remove(request)
        self._depth -= request.is_first_part

    def _drop(self, request: ScoringRequest) -> bool:
        """Whether a request is not computed: its caller has gone away, or will have before it is answered."""
        if request.is_over:
            return True
        if request.abandoned:
            request.is_over = True
            self._count(request, ABANDONED)
        elif request.is_late(self.speed.seconds(request.tokens)):
            request.fail(LateError("the request has waited until its deadline could not be met any more"))
            self._count(request, DROPPED_LATE)
        return request.is_over

    def _count(self, request: ScoringRequest, why: str) -> None:
        self.not_computed[why] += request.is_first_part

    def _check_room(self, caller: str, expected: int) -> None:
        if self._lost is not None:
            raise EngineLostError(self._lost)
        if self._draining:
            raise DrainingError("the server is draining and takes no new work: ask another one")
        if self._depth + expected < self.limit:
            return
        for request in [request for request in self._waiting if self._drop(request)]:
            self._remove(request)
        if self._depth + expected < self.limit or self._has_fewer_than_another(caller):
            return
        raise self._full()

    def _has_fewer_than_another(self, caller: str) -> bool:
        """Whether another caller has at least two more requests here, so that one of them makes room."""
        newest = self._waiting.newest_of_longest()
        if newest is None:
            return False
        own = self._waiting.whole_requests_of(caller) + self._expected[caller]
        return self._waiting.whole_requests_of(newest.caller) > own + 1

    def _displace_one(self) -> None:
        newest = self._waiting.newest_of_longest()
        assert newest is not None
        for request in [each for each in self._waiting if newest in (each, each.first_part)]:
            self._remove(request)
            request.is_over = True
        self._count(newest, DISPLACED)
        newest.fail(self._full())

    def _check_in_time(self, parts: Sequence[ScoringRequest]) -> None:
        first = parts[0]
        if first.due is None:
            return
        now, in_hand = time.monotonic(), self._in_hand_seconds()
        rate = self.speed.seconds_per_token
        ahead = (in_hand + self._waiting.tokens_before(first) * rate) / self.engines
        own = sum(self.speed.seconds(part.tokens) for part in parts)
        for part in parts:
            part.measures = not ahead and now - self._last_taken > SPEED_IS_KNOWN_SECONDS
        if first.is_late(ahead + own):
            self._count(first, REFUSED_LATE)
            raise LateError(
                f"the deadline is in {max(0.0, first.due - now):.3g} s and cannot be met: {ahead:.3g} s of "
                f"work come before the request, which takes {own:.3g} s: ask for less at once, or allow more "
                "time"
            )

    def _in_hand_seconds(self) -> float:
        """What is left of the work that was taken and is not done."""
        now, rate = time.monotonic(), self.speed.seconds_per_token
        return sum(
            max(0.0, request.tokens * rate - (0.0 if request.began is None else now - request.began))
            for request in self._taken
            if not request.is_over
        )

    def _full(self) -> QueueFullError:
        return QueueFullError(
            f"the queue holds {self.limit} requests and is full: ask again later, or keep fewer in flight",
            self._retry_after_seconds(),
        )

    def _retry_after_seconds(self) -> float:
        """How long it takes until half of what waits is computed."""
        tokens = sum(request.tokens for request in self._waiting)
        return max(LEAST_RETRY_SECONDS, tokens * self.speed.seconds_per_token / self.engines / 2)
