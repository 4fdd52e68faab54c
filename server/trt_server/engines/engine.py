"""What every engine is: arrays in, arrays and timings out. It knows nothing of requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.prefix_store import PrefixStore


@dataclass(frozen=True)
class Batch:
    """Prompts that the engine runs at once.

    token_ids: int32 [prompts, length], padded on the right with 0.
    lengths: int32 [prompts], each prompt's real tokens, 1 to `length`.
    candidates: int32 [prompts, width], padded on the right with 0.
    prefix: int32 [tokens], what all its prompts begin with and token_ids leaves out: the engine takes it from
    its prefix store, or computes it once and keeps it there. None: nothing comes from a store.
    """

    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    candidates: NDArray[np.int32]
    prefix: NDArray[np.int32] | None = None


def padded_length(tokens: int, multiple: int) -> int:
    """The next multiple."""
    return -(-tokens // multiple) * multiple


@dataclass(frozen=True)
class Scores:
    """For the token that follows each prompt; log-probabilities are natural logarithms.

    candidate_logprobs: float32 [prompts, width]; what stands at padding is undefined.
    top_tokens: int32 [prompts], arg-max of the whole vocabulary.
    top_logprobs: float32 [prompts].
    """

    candidate_logprobs: NDArray[np.float32]
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class EngineTiming:
    """Nanoseconds of one batch; core is the compute alone, copies are 0 where nothing is copied.

    waited_ns: on the device, copied in, for the batch before.
    """

    copy_in_ns: int
    core_ns: int
    copy_out_ns: int
    waited_ns: int = 0

    def __add__(self, other: EngineTiming) -> EngineTiming:
        return EngineTiming(
            self.copy_in_ns + other.copy_in_ns,
            self.core_ns + other.core_ns,
            self.copy_out_ns + other.copy_out_ns,
            self.waited_ns + other.waited_ns,
        )

    def scaled(self, share: float) -> EngineTiming:
        """A share of the work; the waiting was everybody's, and is left out."""
        return EngineTiming(
            round(self.copy_in_ns * share), round(self.core_ns * share), round(self.copy_out_ns * share)
        )


@dataclass(frozen=True)
class Outcome:
    """prefix_reused: the batch's prefix came from the store; else it was computed, in this batch's time."""

    scores: Scores
    timing: EngineTiming
    prefix_reused: bool = False


class Submission(Protocol):
    """A batch that was handed to the engine."""

    def wait(self) -> Outcome:
        """Return when the batch is computed. Raises EngineLostError when the engine failed for good."""
        ...


@dataclass(frozen=True)
class PeakMeasurements:
    """How often a peak was measured, and the least of the rates, FLOP/s.

    contended: other processes had the cores in every one of them, so that even the largest is too low.
    """

    count: int
    least_flops_per_second: float
    contended: bool

    def joined(self, other: PeakMeasurements) -> PeakMeasurements:
        return PeakMeasurements(
            self.count + other.count,
            min(self.least_flops_per_second, other.least_flops_per_second),
            self.contended and other.contended,
        )


@dataclass(frozen=True)
class PeakFlops:
    """The rate that MFU is a share of: dense, FLOP/s, and where the number comes from.

    measured: None where it is known without.
    """

    flops_per_second: float
    source: str
    measured: PeakMeasurements | None = None

    def joined(self, other: PeakFlops) -> PeakFlops:
        """The larger of two, with the measurements of both."""
        larger = max(self, other, key=lambda peak: peak.flops_per_second)
        if self.measured is None or other.measured is None:
            return larger
        return replace(larger, measured=self.measured.joined(other.measured))


@dataclass(frozen=True)
class EngineLimits:
    """The largest batch an engine is asked to take: tokens of a prompt, padding included, and prompts; and
    the bytes it may keep prefixes in (0: it keeps none)."""

    max_prompt_tokens: int
    max_batch_size: int
    prefix_cache_bytes: int = 0


@dataclass(frozen=True)
class EngineDescription:
    """name and version of the library, precision it computes in ("fp32", "tf32", "fp16"), its device's name,
    the peak for that precision, and a fingerprint of everything that could change an answer."""

    name: str
    version: str
    precision: str
    device: str
    peak: PeakFlops
    fingerprint: str
    load_seconds: float
    build_seconds: float


class Engine(Protocol):
    """One loaded model on one device. All calls come from one thread, the one that made it.

    depth: how many batches may be submitted before the first is waited for (1: no overlap).
    length_multiple: its batches' lengths are padded to a multiple of this.
    max_candidates: of a prompt; None: as many as are asked for.
    prefixes: what it keeps of prompts' beginnings; None: it computes every prompt whole.
    """

    description: EngineDescription
    depth: int
    length_multiple: int
    max_candidates: int | None

    @property
    def prefixes(self) -> PrefixStore[Any] | None: ...

    def warm_up(self) -> None:
        """Run every shape class once, so that no request pays for a first time."""
        ...

    def submit(self, batch: Batch) -> Submission: ...

    def measure_peak(self) -> PeakFlops:
        """Measure it once more where it is measured: the largest so far. No batch may be under way."""
        ...

    def close(self) -> None: ...
