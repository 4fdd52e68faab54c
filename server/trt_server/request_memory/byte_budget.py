"""The memory that requests may take, from the first byte that is received to the last that is answered."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from trt_server.errors import BudgetSpentError
from trt_server.readable import readable_bytes

# When a caller is told to ask again: what holds the memory is received or computed until then, mostly.
RETRY_SECONDS = 1.0


class ByteBudget:
    """Counts what requests take, on the event loop.

    Attributes:
        limit: Bytes in all.
        used: Bytes that are taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._on_freed: list[Callable[[], None]] = []

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return self.limit - self.used

    def take(self, size: int) -> Charge:
        """Take so many bytes.

        Raises:
            BudgetSpentError: So many are not left.
        """
        charge = Charge(self)
        charge.grow(size)
        return charge

    def when_freed(self, call: Callable[[], None]) -> None:
        """Have this called whenever bytes were given back."""
        self._on_freed.append(call)

    def give_back(self, size: int) -> None:
        """Take so many bytes less."""
        self.used -= size
        for call in self._on_freed:
            call()


class Charge:
    """Bytes that one caller takes, given back where it is left as a context."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0
        self._is_over = False

    def grow(self, size: int) -> None:
        """Take so many bytes more, unless it was given back.

        Raises:
            BudgetSpentError: So many are not left.
        """
        if size > self._budget.free and not self._is_over:
            raise BudgetSpentError(
                f"requests take all of the server's {readable_bytes(self._budget.limit)} for them: ask again "
                "later, keep fewer in flight, or start the server with a larger --request-memory",
                RETRY_SECONDS,
            )
        self.count(size)

    def count(self, size: int) -> None:
        """Count so many bytes more, left or not: of an answer, which would be lost else.

        Others are refused until enough is given back.
        """
        if not self._is_over:
            self._budget.used += size
            self._size += size

    def shrink(self, size: int) -> None:
        """Give so many bytes back, of those that are taken."""
        size = min(size, self._size)
        self._size -= size
        if size:
            self._budget.give_back(size)

    def release(self) -> None:
        """Give all of it back, and take no more."""
        self._is_over = True
        self.shrink(self._size)

    def __enter__(self) -> Charge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
