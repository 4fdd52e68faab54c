"""Makes batches of the requests that wait in a queue."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from trt_common.one_line import reason_of

from trt_server.errors import ScoringError
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.request import ScoringRequest, Turn, fail_all
from trt_server.scheduling.work import Work

log = logging.getLogger(__name__)


class Assembler:
    """Makes the work of one queue's engines, in any thread.

    Attributes:
        batching: What is merged into one batch, and how much that may be.
    """

    def __init__(self, queue: RequestQueue, batching: Batching) -> None:
        self._queue = queue
        self.batching = batching

    def work_of(self, requests: Sequence[ScoringRequest]) -> Work | None:
        """Return the work of some requests; None where it cannot be assembled, which they are told."""
        try:
            return Work(requests, self.batching)
        except Exception as error:
            log.exception("a batch could not be assembled")
            fail_all(requests, ScoringError(f"the batch could not be assembled: {reason_of(error)}"))
            return None

    def work_before(self, turn: Turn) -> Work | None:
        """Return work of waiting requests whose turn is before this one; None where there are none."""
        requests = self._queue.take_before(turn, self.batching)
        return self.work_of(requests) if requests else None
