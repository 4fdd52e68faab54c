"""An engine that computes nothing and answers at once, for tests of what is before and behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import Batch, EngineDescription, EngineTiming, Outcome, Scores
from trt_server.engines.prefix_store import PrefixStore


class Instant:
    """An engine that answers zeros."""

    description = EngineDescription("instant", "1", "fp32", "none", PeakFlops(1.0, ""), "", 0.0, 0.0)
    length_multiple = 1
    max_candidates: int | None = None
    max_scored_positions: int | None = None
    prefixes: PrefixStore[Any] | None = None

    def __init__(self, submitted: Callable[[], None] = lambda: None, depth: int = 1) -> None:
        self.depth = depth
        self.submitted = submitted

    def warm_up(self) -> None: ...

    def submit(self, batch: Batch) -> Zeros:
        self.submitted()
        return Zeros(batch)

    def measure_peak(self) -> PeakFlops:
        return self.description.peak

    def close(self) -> None: ...


class Zeros:
    def __init__(self, batch: Batch) -> None:
        self._targets, self._scored = len(batch.target_ids), len(batch.scored)

    def wait(self) -> Outcome:
        scores = Scores(
            np.zeros(self._targets, np.float32),
            np.zeros(self._scored, np.int32),
            np.zeros(self._scored, np.float32),
        )
        return Outcome(scores, EngineTiming(0, 1, 0))
