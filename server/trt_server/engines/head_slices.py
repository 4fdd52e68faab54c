"""The slices in which a model's head runs, so that a stated memory holds the logits of each."""

from __future__ import annotations

# Of one slice, in float32. What becomes of them on the way to log-probabilities takes three times as much.
LOGITS_BYTES = 64 * 2**20


def places_of_a_slice(vocabulary_size: int) -> int:
    """Return how many places the head is run on at once: at least one."""
    return max(1, LOGITS_BYTES // (4 * vocabulary_size))
