"""The measurement of an engine's peak, which the engine's thread makes between two batches."""

from __future__ import annotations

import asyncio

from trt_common.one_line import reason_of

from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import Engine
from trt_server.errors import ScoringError
from trt_server.threads import futures


class PeakTurn:
    """A request to measure the peak. It is made on the event loop that waits for the result.

    Attributes:
        peak: The result, or the error.
    """

    def __init__(self) -> None:
        self.peak: asyncio.Future[PeakFlops] = asyncio.get_running_loop().create_future()

    def take(self, engine: Engine) -> None:
        """Measure, in the engine's thread and with no batch under way, unless the caller has gone away."""
        if self.peak.done():
            return
        try:
            futures.set_result(self.peak, engine.measure_peak())
        except Exception as error:
            self.refuse(ScoringError(f"the peak could not be measured: {reason_of(error)}"))

    def refuse(self, error: ScoringError) -> None:
        """Hand the caller an error instead of the peak."""
        futures.set_exception(self.peak, error)
