"""A turn of an engine's thread, taken between batches, in which it measures its peak."""

from __future__ import annotations

import asyncio

from trt_common.one_line import reason_of

from trt_server.engines.engine import Engine, PeakFlops
from trt_server.errors import ScoringError
from trt_server.scheduling import futures


class PeakTurn:
    """Made on the event loop that waits for `peak`."""

    def __init__(self) -> None:
        self.peak: asyncio.Future[PeakFlops] = asyncio.get_running_loop().create_future()

    def take(self, engine: Engine) -> None:
        """In the engine's thread, with no batch under way. Nothing where nobody waits for it any more."""
        if self.peak.done():
            return
        try:
            futures.set_result(self.peak, engine.measure_peak())
        except Exception as error:
            self.refuse(ScoringError(f"the peak could not be measured: {reason_of(error)}"))

    def refuse(self, error: ScoringError) -> None:
        futures.set_exception(self.peak, error)
