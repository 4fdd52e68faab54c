"""The deadline of a call: whether a call that ended early ran out of time, or was cancelled by its caller."""

from __future__ import annotations

import time
from typing import Protocol

from trt_server.rpc.types import Context

# A caller ends its call before the server sees the deadline pass: the time that it sends is rounded up, by up
# to 1 % in gRPC's C core, and it counts from before the call arrived.
_ROUNDING = 0.01
_JITTER_SECONDS = 0.02


class Deadline(Protocol):
    """The deadline that a caller has set."""

    @property
    def due(self) -> float | None:
        """When it passes for the caller, on the clock of time.monotonic; None where there is none."""
        ...

    @property
    def passed(self) -> bool:
        """Whether it has passed; False where there is none."""
        ...


class CallDeadline:
    """That of a gRPC call. It is made when the call arrives."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seconds: float | None = context.time_remaining()

    @property
    def due(self) -> float | None:
        """When it passes for the caller, on the clock of time.monotonic; None where there is none."""
        if self._seconds is None:
            return None
        return time.monotonic() + self._context.time_remaining() - _ROUNDING * self._seconds

    @property
    def passed(self) -> bool:
        """Whether it has passed, or is so near that it has for the caller; False where there is none."""
        if self._seconds is None:
            return False
        return self._context.time_remaining() <= _JITTER_SECONDS + _ROUNDING * self._seconds
