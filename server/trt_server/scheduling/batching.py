"""What may be merged into one batch, and for how long the engine waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_server.scheduling.request import ScoringRequest


@dataclass(frozen=True)
class Batching:
    """max_delay_seconds 0 never merges: a batch is one request, as its caller sent it."""

    max_prompts: int
    max_tokens: int
    max_delay_seconds: float

    def takes(self, requests: Sequence[ScoringRequest]) -> bool:
        """Whether these make one batch within the limits, padding counted."""
        prompts = sum(len(request.prompts) for request in requests)
        padded = prompts * max(request.longest for request in requests)
        return prompts <= self.max_prompts and padded <= self.max_tokens

    def is_full(self, requests: Sequence[ScoringRequest]) -> bool:
        """Whether not even one more prompt of the same length would go in."""
        prompts = sum(len(request.prompts) for request in requests) + 1
        return (
            prompts > self.max_prompts
            or prompts * max(request.longest for request in requests) > self.max_tokens
        )
