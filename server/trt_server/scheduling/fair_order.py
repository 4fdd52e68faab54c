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
        least: The virtual time when the line was empty.
        lead: So much earlier its turn is taken to begin, though not before that time.
        tokens: Of all of them.
    """

    begin: float
    least: float
    lead: float
    requests: deque[ScoringRequest] = field(default_factory=deque)
    tokens: int = 0

    @property
    def turn(self) -> Turn:
        """That of the first of them."""
        return max(self.least, self.begin - self.lead), len(self.requests)


class FairOrder:
    """The requests that wait, each in its caller's line.

    The virtual time is the one at which the turn of the request began that is being computed. A turn is as
    long as the request has tokens. That of the first request of a line begins where the turn of the caller's
    request before it ended, or at the virtual time of its arrival if that is later. The line whose turn
    begins first is served first, the one with fewest requests where several do. So callers that always have
    requests waiting get the same number of tokens each, and the request of one that had none waiting is
    served next.

    Such a caller may be ahead of the others by as many tokens as one request of theirs has, and is still
    served next: else one that asks for little several times, while each of the others is served once, would
    wait for a request of all others.
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

    def _line_of(self, caller: str) -> _Line:
        """Return the caller's line, or the one that it would have if it asked now."""
        if (line := self._lines.get(caller)) is not None:
            return line
        begin = max(self._time, self._begins.get(caller, 0.0))
        lead = max((each.requests[0].tokens for each in self._lines.values()), default=0)
        return _Line(begin, self._time, lead)

    def add(self, request: ScoringRequest) -> None:
        """Add a request at the end of its caller's line."""
        line = self._lines.setdefault(request.caller, self._line_of(request.caller))
        line.requests.append(request)
        line.tokens += request.tokens

    def take(self, request: ScoringRequest) -> None:
        """Remove a request that will be computed, and charge its caller with its tokens."""
        line = self._lines[request.caller]
        request.turn = line.turn
        line.begin += request.tokens
        # It was the first one's.
        line.lead = 0
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
        line = self._line_of(request.caller)
        own = line.tokens
        begin = line.begin + own if own else line.turn[0]
        others = (each for caller, each in self._lines.items() if caller != request.caller)
        return own + sum(min(each.tokens, max(0.0, begin - each.turn[0])) for each in others)

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
