"""TensorRT on an NVIDIA device, in fp16, fp32 or TF32."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray
from trt_common.one_line import one_line

from trt_server.devices.datasheet import datasheet_peak
from trt_server.devices.peak import PeakFlops
from trt_server.engines.engine import (
    ALWAYS_VISIBLE,
    MAX_TOP_TOKENS,
    Batch,
    EngineDescription,
    EngineLimits,
    EngineTiming,
    Outcome,
    Submission,
    next_token_batch,
)
from trt_server.engines.prefix_store import PrefixStore
from trt_server.engines.tensorrt.library import FLAVOUR, TITLE, VERSION
from trt_server.engines.tensorrt.messages import is_out_of_memory
from trt_server.engines.tensorrt.plan.kv_cache import KvCache
from trt_server.engines.tensorrt.plan.prepared import PreparedPlan, top_tokens
from trt_server.engines.tensorrt.plan.profiles import (
    LENGTH_MULTIPLE,
    MAX_CANDIDATES,
    BatchSize,
    Profile,
    max_scored_positions,
    rounded_up,
)
from trt_server.engines.tensorrt.run.batch_buffers import BatchBuffers
from trt_server.engines.tensorrt.run.cuda_context import CudaContext, out_of_memory
from trt_server.engines.tensorrt.run.layout import input_layout, output_layout
from trt_server.engines.tensorrt.run.plan_for_device import prepare_on
from trt_server.engines.tensorrt.run.prefixes import DevicePrefixes
from trt_server.engines.tensorrt.run.runtime import PlanRuntime
from trt_server.errors import EngineLostError, InvalidRequestError, StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.readable import megabytes

log = logging.getLogger(__name__)

_DEPTH = 2


class TensorRtEngine:
    """The engine on TensorRT. The thread that makes it owns the device's primary context until `close`.

    Its depth is 2: the next batch is copied to the device while one is computed.

    The head computes all scored positions of a batch at once. Their number is bounded, and so is its memory:
    vocabulary size × max_scored_positions × 4 bytes for each float32 copy of the logits.
    """

    depth = _DEPTH
    length_multiple = LENGTH_MULTIPLE
    max_candidates: int | None = MAX_CANDIDATES

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        precision: str,
        tf32: bool,
        ordinal: int = 0,
        prepared: PreparedPlan | None = None,
    ) -> None:
        """Build the plan or find it in the cache, load it, and allocate its buffers.

        Args:
            checkpoint: The model.
            limits: The largest batch it has to accept.
            precision: "fp16" or "fp32".
            tf32: With "fp32": products run on the tensor cores in TF32.
            ordinal: CUDA's number of the device.
            prepared: The plan, where it was prepared before for this device or one of its kind.

        Raises:
            StartError: TensorRT does not accept the model, or the device is unusable or too small.
        """
        start = time.perf_counter()
        self._prefixes: DevicePrefixes | None = None
        self._lost: str | None = None
        self._free: deque[BatchBuffers] = deque()
        self._device = CudaContext(ordinal)
        self.max_scored_positions: int | None = max_scored_positions(limits)
        with self._freed_on_failure():
            if prepared is None:
                prepared = prepare_on(self._device, checkpoint, limits, precision, tf32)
            else:
                start -= prepared.build_seconds
            self._load(prepared, limits, top_tokens(checkpoint))
        self.description = _describe(self._device, prepared, time.perf_counter() - start)
        self._log_sizes(prepared, _logits_bytes(checkpoint, max_scored_positions(limits)))

    @property
    def prefixes(self) -> PrefixStore[Any] | None:
        """The store of shared prefixes; None where the plan takes no KV cache."""
        return None if self._prefixes is None else self._prefixes.store

    def warm_up(self) -> None:
        """Run every profile at its least, best and most sizes, because kernels load or compile at first runs.

        Raises:
            StartError: A run failed.
        """
        for profile in self._profiles:
            for end in ("least", "best", "most"):
                size = profile.size(end)
                past = None if self._prefixes is None else self._prefixes.to_warm_up(size)
                try:
                    self._submit(_blank(size), past).wait()
                except EngineLostError as error:
                    raise self._not_warm(size, str(error)) from error
        self._runtime.keep_kernels()

    def submit(self, batch: Batch) -> Submission:
        """Start to compute a batch; a prefix that is not in the store is computed first, and waited for.

        Raises:
            InvalidRequestError: The batch is larger than the limits.
            EngineLostError: The engine has failed.
        """
        if self._prefixes is None:
            return self._submit(batch, None)
        if batch.prefix is None:
            return self._submit(batch, self._prefixes.none())
        if past := self._prefixes.find(batch.prefix):
            return _Continued(self._submit(batch, past), None)
        past, timing = self._compute(self._prefixes, batch.prefix)
        padding = rounded_up(len(batch.prefix)) - len(batch.prefix)
        return _Continued(self._submit(batch, past), timing, padding)

    def _compute(self, prefixes: DevicePrefixes, prefix: NDArray[np.int32]) -> tuple[KvCache, EngineTiming]:
        """Compute a prefix into the store.

        Returns:
            The KV cache of a batch that continues the prefix, and how long the computation took.
        """
        block = prefixes.reserve(prefix)
        tokens = np.zeros((1, rounded_up(len(prefix))), np.int32)
        tokens[0, : len(prefix)] = prefix
        lengths, no_candidates = np.full(1, len(prefix), np.int32), np.zeros((1, 1), np.int32)
        batch = next_token_batch(tokens, lengths, no_candidates)
        timing = self._submit(batch, prefixes.computing(block)).wait().timing
        return prefixes.keep(prefix, block), timing

    def _submit(self, batch: Batch, past: KvCache | None) -> Submission:
        if self._lost is not None:
            raise EngineLostError(self._lost)
        size = _size(batch, past)
        profile = self._runtime.profile_for(size)
        if profile is None:
            raise InvalidRequestError(_too_large(self._profiles, size))
        buffers = self._free.popleft()
        try:
            return _Watched(self, buffers.submit(batch, size, past, profile, self._free.append))
        except EngineLostError as error:
            self.lose(str(error))
            raise
        except BaseException:
            self._free.append(buffers)
            raise

    def measure_peak(self) -> PeakFlops:
        """Return the datasheet's peak."""
        return self.description.peak

    def lose(self, reason: str) -> None:
        """Refuse every batch from now on, with this reason."""
        self._lost = reason

    def layer_information(self) -> str:
        """Return the plan's layers and their kernels as TensorRT's JSON."""
        return self._runtime.layer_information()

    def close(self) -> None:
        """Free the plan and the device's memory, and leave its context."""
        self._free.clear()
        if hasattr(self, "_runtime"):
            self._runtime.close()
            del self._runtime
        self._device.close()

    def _not_warm(self, size: BatchSize, reason: str) -> StartError:
        tokens = f"{size.prompts} × {size.tokens} tokens"
        if is_out_of_memory(reason):
            return StartError(out_of_memory(self._device, f"more bytes for {tokens}"))
        return StartError(f"the first batch of {tokens} failed: {reason}")

    @contextmanager
    def _freed_on_failure(self) -> Iterator[None]:
        """Close the engine where it cannot be made, and say why.

        Raises:
            StartError: The device failed, or its memory does not suffice.
        """
        try:
            yield
        except cuda.MemoryError as error:
            no_memory = out_of_memory(self._device, f"more bytes for the engine ({one_line(error)})")
            self.close()
            raise StartError(no_memory) from error
        except cuda.Error as error:
            self.close()
            raise StartError(f"the CUDA device failed: {one_line(error)}") from error
        except BaseException:
            self.close()
            raise

    def _log_sizes(self, prepared: PreparedPlan, logits_bytes: int) -> None:
        log.info(
            "%s on %s: %s, a plan of %s, %s for activations, up to %d scored positions a batch, whose logits "
            "take %s in each float32 copy; an empty pair of events, which is in every core time, measures "
            "%.1f µs",
            TITLE,
            self._device.name,
            self.description.precision,
            megabytes(prepared.plan.path.stat().st_size),
            megabytes(self._runtime.activation_bytes),
            self.max_scored_positions,
            megabytes(logits_bytes),
            self.event_cost_ns / 1e3,
        )

    def _load(self, prepared: PreparedPlan, limits: EngineLimits, top_tokens: int) -> None:
        self._profiles = prepared.recipe.profiles
        self._runtime = PlanRuntime(prepared.plan.path, self._profiles, self._device)
        most = self._profiles[-1].size("most")
        if prepared.past is not None:
            self._prefixes = DevicePrefixes(
                self._device, prepared.past, limits.prefix_cache_bytes, most.tokens, most.prompts
            )
        for layout in (input_layout(most), output_layout(most, top_tokens)):
            for tensor in layout.tensors.values():
                self._runtime.check_tensor(tensor)
        self._free.extend(BatchBuffers(self._device, self._runtime, most, top_tokens) for _ in range(_DEPTH))
        self.event_cost_ns = self._device.event_cost_ns()


@dataclass(frozen=True)
class _Watched:
    """A submission whose failure makes its engine refuse further batches."""

    engine: TensorRtEngine
    submission: Submission

    def wait(self) -> Outcome:
        try:
            return self.submission.wait()
        except EngineLostError as error:
            self.engine.lose(str(error))
            raise


@dataclass(frozen=True)
class _Continued:
    """A submission whose prompts continue a shared prefix.

    Attributes:
        prefix_timing: How long the prefix took to compute; None where it was in the store.
        prefix_padding: Tokens that were run besides then.
    """

    submission: Submission
    prefix_timing: EngineTiming | None
    prefix_padding: int = 0

    def wait(self) -> Outcome:
        outcome = self.submission.wait()
        if self.prefix_timing is None:
            return replace(outcome, prefix_reused=True)
        timing = outcome.timing + self.prefix_timing
        return replace(outcome, timing=timing, prefix_padding=self.prefix_padding)


def _describe(device: CudaContext, prepared: PreparedPlan, seconds: float) -> EngineDescription:
    recipe = prepared.recipe
    precision = "tf32" if recipe.tf32 else recipe.precision
    if recipe.tf32:
        log.info("TF32: float32 products run on the tensor cores with 10 bits of mantissa")
    unknown = PeakFlops(0.0, f"unknown: {device.name} is not in the table; give --peak-flops")
    return EngineDescription(
        name=FLAVOUR.module,
        version=VERSION,
        precision=precision,
        device=device.name,
        peak=datasheet_peak(device.name, recipe.precision, recipe.tf32) or unknown,
        fingerprint=recipe.fingerprint,
        load_seconds=seconds - prepared.build_seconds,
        build_seconds=prepared.build_seconds,
    )


def _logits_bytes(checkpoint: Checkpoint, positions: int) -> int:
    """Return the bytes of a float32 copy of the logits of so many positions."""
    return checkpoint.geometry.vocabulary_size * positions * np.dtype(np.float32).itemsize


def _size(batch: Batch, past: KvCache | None) -> BatchSize:
    prompts, tokens = batch.token_ids.shape
    slots, kept = (0, 0) if past is None else (past.slots, past.kept)
    return BatchSize(prompts, tokens, len(batch.scored), len(batch.target_ids), slots, kept)


def _blank(size: BatchSize) -> Batch:
    """Return a batch of this size whose tokens are all 0."""
    zeros = {name: np.zeros(shape, np.int32) for name, shape in size.input_shapes.items()}
    zeros["visible_until"] += ALWAYS_VISIBLE
    return Batch(lengths=np.full(size.prompts, size.tokens, np.int32), top_count=MAX_TOP_TOKENS, **zeros)


def _too_large(profiles: tuple[Profile, ...], size: BatchSize) -> str:
    most = profiles[-1]
    return (
        f"a batch of {size.prompts} prompts of {size.tokens} tokens with {size.scored} scored positions and "
        f"{size.targets} tokens to score there is more than the {most.prompts.most}, {most.tokens.most}, "
        f"{most.scored.most} and {most.targets.most} that the engine takes: send fewer"
    )
