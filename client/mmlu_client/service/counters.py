"""What servers count of their own work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since a server's start.

    Attributes:
        prompt_tokens: of the prompts that it took.
        cached_tokens: those of them whose keys and values were in its cache, and were not computed.
        queue_seconds: that prompts waited for the engine, added up.
        queued: how many prompts that is of.
    """

    prompt_tokens: float
    cached_tokens: float
    queue_seconds: float
    queued: float
