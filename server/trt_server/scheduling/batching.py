"""The limits of a batch, and how long it waits for requests to merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trt_server.scheduling.request import ScoringRequest


@dataclass(frozen=True)
class Batching:
    """When requests are merged into one batch.

    Attributes:
        max_prompts: In one batch.
        max_tokens: In one batch, padding included.
        max_delay_seconds: How long the first request of a batch waits for others. With 0 none are merged: a
            batch is one request.
    """

    max_prompts: int
    max_tokens: int
    max_delay_seconds: float

    def takes(self, requests: Sequence[ScoringRequest]) -> bool:
        """Whether these requests make one batch within the limits."""
        prompts = sum(len(request.prompts) for request in requests)
        padded = prompts * max(request.longest for request in requests)
        return prompts <= self.max_prompts and padded <= self.max_tokens

    def is_full(self, requests: Sequence[ScoringRequest]) -> bool:
        """Whether the batch has no room for one more prompt of the same length."""
        prompts = sum(len(request.prompts) for request in requests) + 1
        return (
            prompts > self.max_prompts
            or prompts * max(request.longest for request in requests) > self.max_tokens
        )
