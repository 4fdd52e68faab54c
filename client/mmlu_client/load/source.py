"""Prompts, built ahead in a thread of their own, grouped into requests."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

from mmlu_client.data.item import Item
from mmlu_client.prompts.prompt import Prompt, PromptSource, Unaskable
from mmlu_client.service.messages import Request

# Requests built in one go: few at first, so that the engine starts at once, then enough to use every core.
FIRST_REQUESTS = 4
CHUNKS_AHEAD = 4
# Prompts built in one go.
LARGEST_CHUNK = 64
# The same where like lengths are put together: over all of MMLU at bs 8, a third of the padding of 64.
# In a random order it stays 64: what is answered first is a fair sample.
LARGEST_SORTED_CHUNK = 512

# A prompt and the nanoseconds its building took.
Built = tuple[Prompt | Unaskable, int]


class RequestSource:
    """Builds a phase's requests in the order of its items."""

    def __init__(
        self,
        builder: PromptSource,
        items: Sequence[Item],
        batch_size: int,
        worker: ThreadPoolExecutor,
        on_unaskable: Callable[[Unaskable], None],
        *,
        id_prefix: str,
        reference: bool,
        reuse_prefix: bool = False,
        shuffled: bool = False,
        max_positions: int | None = None,
    ) -> None:
        """Prepare the requests for these items.

        Args:
            builder: builds the prompts.
            items: what is asked, in order.
            batch_size: prompts a request.
            worker: the one thread that prompts are built in.
            on_unaskable: told of each item that no prompt can be made of.
            id_prefix: begins each request's id.
            reference: whether the requests are for the reference engine.
            reuse_prefix: whether the server may reuse shared prefixes for them.
            shuffled: whether the items come in a random order, of which no part is to be favoured.
            max_positions: the most positions that a request may have scored; None: any number.
        """
        self._builder = builder
        self._batch_size = batch_size
        self._worker = worker
        self._on_unaskable = on_unaskable
        self._id_prefix = id_prefix
        self._reference = reference
        self._reuse_prefix = reuse_prefix
        self._max_positions = max_positions
        far = batch_size > 1 and not shuffled
        self._chunks = _chunks(items, batch_size, LARGEST_SORTED_CHUNK if far else LARGEST_CHUNK)
        self._ahead: deque[asyncio.Future[list[Built]]] = deque()
        self._prompts: deque[tuple[Prompt, int]] = deque()
        self._requests = 0

    async def next(self) -> Request | None:
        """Wait until the next request is built.

        No item is lost when the wait is cancelled.

        Returns:
            The request; None after the last.

        Raises:
            InputError: the prompts cannot be built with this tokenizer.
        """
        self._build_ahead()
        while len(self._prompts) < self._batch_size and self._ahead:
            for prompt, nanoseconds in await asyncio.shield(self._ahead[0]):
                self._take(prompt, nanoseconds)
            self._ahead.popleft()
            self._build_ahead()
        if not self._prompts:
            return None
        built = [self._prompts.popleft() for _ in range(self._next_count())]
        self._requests += 1
        return Request(
            f"{self._id_prefix}{self._requests}",
            prompts=tuple(prompt for prompt, _ in built),
            tokenize_ns=sum(nanoseconds for _, nanoseconds in built),
            reference=self._reference,
            reuse_prefix=self._reuse_prefix,
        )

    def _next_count(self) -> int:
        """Return how many prompts the next request has: bs, or as many as the limit on positions allows."""
        count = min(self._batch_size, len(self._prompts))
        if self._max_positions is None:
            return count
        positions = accumulate(self._prompts[place][0].scored_positions for place in range(count))
        return max(1, sum(total <= self._max_positions for total in positions))

    def _take(self, prompt: Prompt | Unaskable, nanoseconds: int) -> None:
        if isinstance(prompt, Prompt):
            self._prompts.append((prompt, nanoseconds))
        else:
            self._on_unaskable(prompt)

    def _build_ahead(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._ahead) < CHUNKS_AHEAD and (chunk := next(self._chunks, None)) is not None:
            building = loop.run_in_executor(self._worker, self._build, chunk)
            # What is wrong with a tokenizer is wrong in every chunk: the first one waited for tells of it.
            building.add_done_callback(_look_at)
            self._ahead.append(building)

    def _build(self, items: Sequence[Item]) -> list[Built]:
        """Build a chunk's prompts in one go, and give each an equal share of the time."""
        start = time.monotonic_ns()
        prompts = self._builder.build(items)
        share = (time.monotonic_ns() - start) // max(1, len(prompts))
        built = [(prompt, share) for prompt in prompts]
        return built if self._batch_size == 1 else _like_lengths_together(built)


def _look_at(building: asyncio.Future[list[Built]]) -> None:
    """Read a future's error, so that asyncio does not print one that nobody waits for."""
    if not building.cancelled():
        building.exception()


def _like_lengths_together(built: Sequence[Built]) -> list[Built]:
    """Sort the prompts of each subject by length, because a batch is padded to its longest prompt.

    The order of the subjects stays.
    """
    subjects = {subject: place for place, subject in enumerate(dict.fromkeys(map(_subject, built)))}
    return sorted(built, key=lambda each: (subjects[_subject(each)], _tokens(each[0])))


def _subject(built: Built) -> str:
    return built[0].item.subject


def _tokens(prompt: Prompt | Unaskable) -> int:
    if not isinstance(prompt, Prompt):
        return 0
    return len(prompt.token_ids) + sum(map(len, prompt.continuations))


def _chunks(items: Sequence[Item], batch_size: int, largest: int) -> Iterator[Sequence[Item]]:
    """Cut the items into chunks of whole batches, of at most `largest` items each.

    A batch is made of two chunks only where a prompt does not fit.
    """
    start, batches, most = 0, FIRST_REQUESTS, max(1, largest // batch_size)
    while start < len(items):
        size = min(batches, most) * batch_size
        yield items[start : start + size]
        start += size
        batches *= 2
