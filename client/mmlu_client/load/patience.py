"""How long a server's answer may take before its request is asked again."""

from __future__ import annotations

# Until a server's first answer nothing is known of its speed, and it may compute for minutes.
FIRST_SECONDS = 900.0
LEAST_SECONDS = 120.0
TIMES_THE_SLOWEST = 10


class Patience:
    """How long an answer of one server may take.

    That is what `--request-timeout` says, or else ten times what the slowest answer took so far, at least
    120 s, and 900 s until the first.
    """

    def __init__(self, given: float | None) -> None:
        """Begin with a server that has not answered yet.

        Args:
            given: what --request-timeout says, in seconds; None where it says nothing.
        """
        self._given = given
        self._slowest: float | None = None

    @property
    def seconds(self) -> float:
        """How long an answer may take now, in seconds."""
        if self._given is not None:
            return self._given
        if self._slowest is None:
            return FIRST_SECONDS
        return max(LEAST_SECONDS, TIMES_THE_SLOWEST * self._slowest)

    def answered(self, seconds: float) -> None:
        """Take note that an answer took so many seconds."""
        self._slowest = max(self._slowest or 0.0, seconds)
