"""Whether a call that ended early ran out of time, or its caller gave it up."""

from __future__ import annotations

from google.protobuf.message import Message
from grpc import aio

# A caller's own clock ends its call first: the time it sends is rounded up, by up to 1 % in gRPC's C core,
# and the call is as long on its way as its end.
_ROUNDING = 0.01
_JITTER_SECONDS = 0.02


class Deadline:
    """A call's, as its caller set it when the call came."""

    def __init__(self, context: aio.ServicerContext[Message, Message]) -> None:
        self._context = context
        self._seconds: float | None = context.time_remaining()

    @property
    def passed(self) -> bool:
        if self._seconds is None:
            return False
        return self._context.time_remaining() <= _JITTER_SECONDS + _ROUNDING * self._seconds
