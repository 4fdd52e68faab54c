"""The protocol of an engine: arrays in, arrays and timings out. An engine knows nothing of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_server.devices.peak import PeakFlops
from trt_server.engines.prefix_store import PrefixStore


@dataclass(frozen=True)
class Batch:
    """Rows of tokens that the engine runs at once, and what is asked of them.

    A row is a prompt, or what follows a stored prefix, with any number of continuations behind it. Each
    continuation sees the prompt and itself: `visible_until` and `positions` say so.

    Attributes:
        token_ids: int32 [rows, length], padded on the right with 0.
        lengths: int32 [rows], each row's real tokens, 1 to `length`.
        positions: int32 [rows, length], each token's place in its own text, the prefix counted.
        visible_until: int32 [rows, length], the last place of the row that sees a token; those before it
            never do.
        scored: int32 [scored], at least one: the tokens, counted through all rows, whose next token is asked
            for.
        target_ids: int32 [targets], at least one: tokens whose log-probability is asked for.
        target_places: int32 [targets], in which place of `scored` each of them would be the next token.
        top_count: How many of the most likely tokens are asked for in every place; 0: none.
        prefix: int32 [tokens], what all rows begin with and token_ids leaves out: the engine takes it from
            its prefix store, or computes it once and keeps it there. None: nothing comes from a store.
    """

    token_ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    positions: NDArray[np.int32]
    visible_until: NDArray[np.int32]
    scored: NDArray[np.int32]
    target_ids: NDArray[np.int32]
    target_places: NDArray[np.int32]
    top_count: int = 0
    prefix: NDArray[np.int32] | None = None


# A place after every row's end.
ALWAYS_VISIBLE = 2**30
# The most that top_count can be.
MAX_TOP_TOKENS = 20


def next_token_batch(
    token_ids: NDArray[np.int32],
    lengths: NDArray[np.int32],
    candidates: NDArray[np.int32],
    first_position: int = 0,
) -> Batch:
    """Make a batch of plain prompts, each of which is asked for its next token alone.

    Args:
        token_ids: int32 [prompts, length], padded on the right.
        lengths: int32 [prompts].
        candidates: int32 [prompts, width], the target_ids of each.
        first_position: Of the first token of each.
    """
    rows, length = token_ids.shape
    positions = np.arange(first_position, first_position + length, dtype=np.int32)
    scored = np.arange(rows, dtype=np.int32) * length + lengths - 1
    return Batch(
        token_ids=token_ids,
        lengths=lengths,
        positions=np.tile(positions, (rows, 1)),
        visible_until=np.full((rows, length), ALWAYS_VISIBLE, np.int32),
        scored=scored.astype(np.int32),
        target_ids=candidates.reshape(-1),
        target_places=np.repeat(np.arange(rows, dtype=np.int32), candidates.shape[1]),
    )


def padded_length(tokens: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `tokens`."""
    return -(-tokens // multiple) * multiple


@dataclass(frozen=True)
class Scores:
    """What a batch asked for; log-probabilities are natural logarithms.

    Attributes:
        target_logprobs: float32 [targets].
        top_token: int32 [scored], arg-max of the whole vocabulary.
        top_logprob: float32 [scored].
        top_tokens: int32 [scored, top_count], the most likely tokens, most likely first. None: not asked for.
        top_logprobs: float32 [scored, top_count].
    """

    target_logprobs: NDArray[np.float32]
    top_token: NDArray[np.int32]
    top_logprob: NDArray[np.float32]
    top_tokens: NDArray[np.int32] | None = None
    top_logprobs: NDArray[np.float32] | None = None


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
        run_lengths: int32 [rows], the tokens that each row was run with, padding included; None: the length
            of the batch.
        prefix_padding: Tokens that computing the prefix ran besides, where it was computed.
        scored_only: The last layer computed nothing but keys and values for tokens that are not scored.
    """

    scores: Scores
    timing: EngineTiming
    prefix_reused: bool = False
    run_lengths: NDArray[np.int32] | None = None
    prefix_padding: int = 0
    scored_only: bool = False


class Submission(Protocol):
    """A batch that was handed to the engine."""

    def wait(self) -> Outcome:
        """Wait until the batch is computed.

        Raises:
            EngineLostError: The engine failed, and cannot compute anything any more.
        """
        ...


@dataclass(frozen=True)
class EngineLimits:
    """The largest batch that an engine has to accept, and the memory it may use for prefixes.

    Attributes:
        max_prompt_tokens: Tokens of a prompt, padding included.
        max_batch_size: Prompts of a batch.
        prefix_cache_bytes: Bytes for the keys and values of shared prefixes; 0: no prefix is stored.
        max_scored_positions: Places of a batch whose next token is asked for; None: the engine's own choice.
    """

    max_prompt_tokens: int
    max_batch_size: int
    prefix_cache_bytes: int = 0
    max_scored_positions: int | None = None


@dataclass(frozen=True)
class EngineDescription:
    """What a client and the logs are told about an engine.

    Attributes:
        name: The library.
        version: The library's version.
        precision: The type that products are computed in: "fp32", "tf32", "fp16" or "bf16".
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
        max_candidates: The most candidates and continuations of a prompt together; None: any number.
        max_scored_positions: The most places of a batch whose next token is asked for; None: any number, in
            slices whose logits take a stated memory.
    """

    description: EngineDescription
    depth: int
    length_multiple: int
    max_candidates: int | None
    max_scored_positions: int | None

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
