"""The protocol of an engine: arrays in, arrays and timings out. An engine knows nothing of requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.prefix_store import PrefixStore


@dataclass(frozen=True)
class Batch:
    """The prompts that the engine runs at once.

    Attributes:
        token_ids: int32 [prompts, length], padded on the right with 0.
        lengths: int32 [prompts], the number of each prompt's real tokens, 1 to `length`.
        candidates: int32 [prompts, width], padded on the right with 0.
        prefix: int32 [tokens], the tokens that all prompts begin with and that token_ids leaves out. The
            engine takes their keys and values from its prefix store, or computes them once and stores them.
            None: the engine does not use its store for this batch.
    """

    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    candidates: NDArray[np.int32]
    prefix: NDArray[np.int32] | None = None


def padded_length(tokens: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `tokens`."""
    return -(-tokens // multiple) * multiple


@dataclass(frozen=True)
class Scores:
    """Log-probabilities (natural logarithms) of the token that follows each prompt.

    Attributes:
        candidate_logprobs: float32 [prompts, width]; values at padding are undefined.
        top_tokens: int32 [prompts], the arg-max over the whole vocabulary.
        top_logprobs: float32 [prompts], the log-probabilities of top_tokens.
    """

    candidate_logprobs: NDArray[np.float32]
    top_tokens: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class EngineTiming:
    """The time that one batch took in the engine, in nanoseconds.

    Attributes:
        copy_in_ns: Copy of the inputs to the device; 0 where nothing is copied.
        core_ns: The computation alone.
        copy_out_ns: Copy of the outputs from the device; 0 where nothing is copied.
        waited_ns: The inputs were on the device and waited for the batch before to be computed.
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
        """Return this fraction of the copies and the computation, without the time spent waiting."""
        return EngineTiming(
            round(self.copy_in_ns * share), round(self.core_ns * share), round(self.copy_out_ns * share)
        )


@dataclass(frozen=True)
class Outcome:
    """What an engine returns for a batch.

    Attributes:
        prefix_reused: The batch's prefix was in the store. False: it was computed, and `timing` includes
            that, or the batch has no prefix.
    """

    scores: Scores
    timing: EngineTiming
    prefix_reused: bool = False


class Submission(Protocol):
    """A batch that was handed to the engine."""

    def wait(self) -> Outcome:
        """Wait until the batch is computed.

        Raises:
            EngineLostError: The engine failed, and cannot compute anything any more.
        """
        ...


@dataclass(frozen=True)
class PeakMeasurements:
    """How often a peak was measured, and the lowest of the rates.

    Attributes:
        least_flops_per_second: The lowest measured rate, in FLOP/s.
        contended: Other processes used the cores in every measurement, so that even the highest rate is too
            low.
    """

    count: int
    least_flops_per_second: float
    contended: bool

    def joined(self, other: PeakMeasurements) -> PeakMeasurements:
        """Return the measurements of both."""
        return PeakMeasurements(
            self.count + other.count,
            min(self.least_flops_per_second, other.least_flops_per_second),
            self.contended and other.contended,
        )


@dataclass(frozen=True)
class PeakFlops:
    """The device's peak rate of dense products, which MFU is relative to, and its source.

    Attributes:
        flops_per_second: The peak, in FLOP/s.
        source: Where the number comes from, in words.
        measured: The measurements it is taken from; None for one that was not measured, or was measured once
            at start-up.
    """

    flops_per_second: float
    source: str
    measured: PeakMeasurements | None = None

    def joined(self, other: PeakFlops) -> PeakFlops:
        """Return the larger of two peaks, with the measurements of both."""
        larger = max(self, other, key=lambda peak: peak.flops_per_second)
        if self.measured is None or other.measured is None:
            return larger
        return replace(larger, measured=self.measured.joined(other.measured))


@dataclass(frozen=True)
class EngineLimits:
    """The largest batch that an engine has to accept, and the memory it may use for prefixes.

    Attributes:
        max_prompt_tokens: Tokens of a prompt, padding included.
        max_batch_size: Prompts of a batch.
        prefix_cache_bytes: Bytes for the keys and values of shared prefixes; 0: no prefix is stored.
    """

    max_prompt_tokens: int
    max_batch_size: int
    prefix_cache_bytes: int = 0


@dataclass(frozen=True)
class EngineDescription:
    """What a client and the logs are told about an engine.

    Attributes:
        name: The library.
        version: The library's version.
        precision: The type that products are computed in: "fp32", "tf32" or "fp16".
        device: The name of the device.
        peak: The device's peak at this precision.
        fingerprint: A hash of everything that could change an answer.
        load_seconds: How long the model took to load.
        build_seconds: How long the plan or the converted weights took to build; 0 where they were in the
            cache.
    """

    name: str
    version: str
    precision: str
    device: str
    peak: PeakFlops
    fingerprint: str
    load_seconds: float
    build_seconds: float


class Engine(Protocol):
    """One loaded model on one device. Only the thread that made an engine may call it.

    Attributes:
        depth: How many batches may be submitted before the first is waited for (1: no overlap).
        length_multiple: The lengths of its batches are padded to a multiple of this.
        max_candidates: The most candidates of a prompt; None: any number.
    """

    description: EngineDescription
    depth: int
    length_multiple: int
    max_candidates: int | None

    @property
    def prefixes(self) -> PrefixStore[Any] | None:
        """The store of shared prefixes; None for an engine that computes every prompt whole."""
        ...

    def warm_up(self) -> None:
        """Run a batch of every kind of shape, so that no request pays for a first run."""
        ...

    def submit(self, batch: Batch) -> Submission:
        """Start to compute a batch."""
        ...

    def measure_peak(self) -> PeakFlops:
        """Measure the peak once more, where it is measured, and return the largest so far.

        No batch may be running.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory. Nothing may be called afterwards."""
        ...
