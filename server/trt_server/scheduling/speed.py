"""How long batches took lately, by their size: what a batch will take, and what it never should."""

from __future__ import annotations

from dataclasses import dataclass

# The weight of a batch in the means, so that about twenty batches count.
SMOOTHING = 0.1
# That of one which is faster than others of its size: a speed that was measured while other programs had the
# machine does not count for long.
FASTER_SMOOTHING = 0.5


@dataclass(frozen=True)
class _Size:
    """Batches of about one size.

    Attributes:
        tokens: Their mean.
        seconds: The mean of what they took.
    """

    tokens: float
    seconds: float

    def with_batch(self, tokens: int, seconds: float, weight: float = SMOOTHING) -> _Size:
        return _Size(
            self.tokens + weight * (tokens - self.tokens), self.seconds + weight * (seconds - self.seconds)
        )

    def with_like_batch(self, tokens: int, seconds: float) -> _Size:
        is_faster = seconds * self.tokens < self.seconds * tokens
        return self.with_batch(tokens, seconds, FASTER_SMOOTHING if is_faster else SMOOTHING)


class BatchSpeed:
    """The seconds of recent batches. One thread of each engine records, any thread asks."""

    def __init__(self) -> None:
        # By the number of bits of their tokens. It is replaced and never changed, so that no reader waits.
        self._sizes: dict[int, _Size] = {}
        self._recent: _Size | None = None

    @property
    def seconds_per_token(self) -> float:
        """What a token took lately, in batches of whatever size; 0: nothing was measured."""
        recent = self._recent
        return 0.0 if recent is None else recent.seconds / recent.tokens

    def record(self, tokens: int, seconds: float) -> None:
        """Learn from a batch.

        Args:
            tokens: Those that the engine ran for it, without padding; at least one.
            seconds: What it took in the engine.
        """
        bits, new = tokens.bit_length(), _Size(tokens, seconds)
        known = self._sizes.get(bits)
        self._sizes = {**self._sizes, bits: known.with_like_batch(tokens, seconds) if known else new}
        recent = self._recent
        self._recent = recent.with_batch(tokens, seconds) if recent else new

    def seconds(self, tokens: int) -> float:
        """Return what a batch of so many tokens takes: as measured, or less where its size was not measured.

        A larger batch takes no longer for each of its tokens than a smaller one, which takes no longer as a
        whole: what follows from these for another size is not too much.
        """
        sizes, bits = self._sizes, tokens.bit_length()
        if bits in sizes:
            return sizes[bits].seconds * tokens / sizes[bits].tokens
        smaller = [size.seconds for known, size in sizes.items() if known < bits]
        larger = [size.seconds * tokens / size.tokens for known, size in sizes.items() if known > bits]
        return max(max(smaller, default=0.0), min(larger, default=0.0))

    def most_seconds(self, tokens: int) -> float:
        """Return what a batch of so many tokens should take at the most; 0: nothing was measured.

        It is that of the next larger size which was measured, or follows from the largest one.
        """
        bounds = [size.seconds * max(1.0, tokens / size.tokens) for size in self._sizes.values()]
        return min(bounds, default=0.0)
