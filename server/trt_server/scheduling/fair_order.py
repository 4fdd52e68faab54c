"""The order in which callers that share an engine are served: start-time fair queueing.

P. Goyal, H. M. Vin and H. Cheng, "Start-time Fair Queueing: A Scheduling Algorithm for Integrated Services
Packet Switching Networks", SIGCOMM 1996. The cost of a request is its tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from trt_server.scheduling.request import ScoringRequest, Turn


@dataclass
class _Line:
    """The requests of one caller that wait, in the order in which they came.

    Attributes:
        begin: The virtual time at which the turn of the first of them begins.
        tokens: Of all of them.
    """

    begin: float
    requests: deque[ScoringRequest] = field(default_factory=deque)
    tokens: int = 0

    @property
    def turn(self) -> Turn:
        """That of the first of them."""
        return self.begin, len(self.requests)


class FairOrder:
    """The requests that wait, each in its caller's line.

    The virtual time is the one at which the turn of the request began that is being computed. A turn is as
    long as the request has tokens. That of the first request of a line begins where the turn of the caller's
    request before it ended, or at the virtual time of its arrival if that is later. The line whose turn
    begins first is served first, the one with fewest requests where several do. So callers that always have
    requests waiting get the same number of tokens each, and the request of one that had none waiting is
    served next.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        # Where the next turn of callers begins that have nothing waiting and were served ahead of their time.
        self._begins: dict[str, float] = {}
        self._time = 0.0

    def __iter__(self) -> Iterator[ScoringRequest]:
        """Yield all, one caller's after another's."""
        for line in self._lines.values():
            yield from line.requests

    @property
    def first(self) -> ScoringRequest | None:
        """The one that is served next; None where none waits."""
        if not self._lines:
            return None
        return min(self._lines.values(), key=lambda line: line.turn).requests[0]

    def turn_of(self, request: ScoringRequest) -> Turn:
        """Return the turn of the first request of a line."""
        return self._lines[request.caller].turn

    def begin_of(self, caller: str) -> float:
        """Return the virtual time at which the caller's next turn begins, or would begin if it asked now."""
        line = self._lines.get(caller)
        return line.begin if line else max(self._time, self._begins.get(caller, 0.0))

    def add(self, request: ScoringRequest) -> None:
        """Add a request at the end of its caller's line."""
        begin = self.begin_of(request.caller)
        line = self._lines.setdefault(request.caller, _Line(begin))
        line.requests.append(request)
        line.tokens += request.tokens

    def take(self, request: ScoringRequest) -> None:
        """Remove a request that will be computed, and charge its caller with its tokens."""
        line = self._lines[request.caller]
        request.turn = line.turn
        line.begin += request.tokens
        self.remove(request)

    def remove(self, request: ScoringRequest) -> None:
        """Remove a request that will not be computed."""
        line = self._lines[request.caller]
        line.requests.remove(request)
        line.tokens -= request.tokens
        if not line.requests:
            del self._lines[request.caller]
            self._begins[request.caller] = line.begin

    def begin(self, request: ScoringRequest) -> None:
        """Move the virtual time on to the turn of a request whose computation begins."""
        self._time = max(self._time, request.turn[0])
        if len(self._begins) > 2 * len(self._lines) + 64:
            self._begins = {caller: begin for caller, begin in self._begins.items() if begin > self._time}

    def clear(self) -> list[ScoringRequest]:
        """Remove all, and return them."""
        every = list(self)
        self._lines.clear()
        return every

    def tokens_before(self, request: ScoringRequest) -> float:
        """Return how many of the waiting tokens are computed before a request that is about to be added."""
        line = self._lines.get(request.caller)
        own = line.tokens if line else 0
        begin = self.begin_of(request.caller) + own
        others = (each for caller, each in self._lines.items() if caller != request.caller)
        return own + sum(min(each.tokens, max(0.0, begin - each.begin)) for each in others)

    def whole_requests_of(self, caller: str) -> int:
        """Return how many requests of a caller wait, those in parts counted once."""
        line = self._lines.get(caller)
        return sum(request.is_first_part for request in line.requests) if line else 0

    def newest_of_longest(self) -> ScoringRequest | None:
        """Return the newest request of the caller that has the most waiting; None where none waits whole."""
        if not self._lines:
            return None
        caller = max(self._lines, key=self.whole_requests_of)
        requests = reversed(self._lines[caller].requests)
        return next((request for request in requests if request.is_first_part), None)
