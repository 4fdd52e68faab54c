"""How long a load waits, and lasts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoadLimits:
    """How long a load waits, and lasts.

    Attributes:
        server_timeout: how long a server that went away is waited for, in seconds.
        request_timeout: how long an answer may take, in seconds; None: as `Patience` says.
        duration_ns: how long requests may fall due, in nanoseconds; None: until every question is asked.
    """

    server_timeout: float
    request_timeout: float | None
    duration_ns: int | None = None
