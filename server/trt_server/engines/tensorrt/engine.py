"""TensorRT on an NVIDIA device, in fp16, fp32 or TF32."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorrt as trt

from trt_server.datasheet import datasheet_peak
from trt_server.engines.engine import (
    Batch,
    EngineDescription,
    EngineLimits,
    Outcome,
    PeakFlops,
    Submission,
)
from trt_server.engines.tensorrt.build import BuildOptions, build_plan
from trt_server.engines.tensorrt.cuda_context import CudaContext, out_of_memory
from trt_server.engines.tensorrt.layout import input_layout, output_layout
from trt_server.engines.tensorrt.messages import speaks_of_memory
from trt_server.engines.tensorrt.plan_cache import (
    CachedPlan,
    PlanRecipe,
    TimingCacheFile,
    find_or_build,
    graph_fingerprint,
)
from trt_server.engines.tensorrt.profiles import (
    LENGTH_MULTIPLE,
    MAX_CANDIDATES,
    Profile,
    profiles_for,
    rounded_up,
)
from trt_server.engines.tensorrt.runtime import PlanRuntime
from trt_server.engines.tensorrt.slot import Slot
from trt_server.errors import EngineLostError, InvalidRequestError, StartError
from trt_server.model.checkpoint import Checkpoint
from trt_server.model.conversion import weights_as
from trt_server.model.graph import build_graph
from trt_server.model.tensor_file import ITEM_SIZES

log = logging.getLogger(__name__)

_DTYPES = {"fp16": "float16", "fp32": "float32"}
_DEPTH = 2


class TensorRtEngine:
    """depth 2: the next batch is copied in while one computes.

    The thread that makes it owns the device's primary context until `close`.
    """

    depth = _DEPTH
    length_multiple = LENGTH_MULTIPLE
    prefixes = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        precision: str,
        tf32: bool,
        ordinal: int = 0,
        prepared: PreparedPlan | None = None,
    ) -> None:
        """Build the plan or find it, load it, and set up its buffers.

        precision: "fp16" or "fp32"; tf32: with "fp32", products run on the tensor cores in TF32. ordinal:
        CUDA's number of the device. prepared: its plan, where that was made before, for it or one like it.
        Raises StartError.
        """
        start = time.perf_counter()
        self._profiles = profiles_for(limits)
        self._lost: str | None = None
        self._free: deque[Slot] = deque()
        self._device = CudaContext(ordinal)
        try:
            if prepared is None:
                prepared = _prepare(self._device, checkpoint, limits, precision, tf32)
            else:
                start -= prepared.build_seconds
            self._load(prepared, limits)
        except BaseException:
            self.close()
            raise
        self.description = _describe(self._device, prepared, time.perf_counter() - start)
        log.info(
            "TensorRT %s on %s: %s, a plan of %.1f MB, %.1f MB for activations; an empty pair of events, "
            "which is in every core time, measures %.1f µs",
            trt.__version__,
            self._device.name,
            self.description.precision,
            prepared.plan.path.stat().st_size / 1e6,
            self._runtime.activation_bytes / 1e6,
            self.event_cost_ns / 1e3,
        )

    def warm_up(self) -> None:
        """Every profile at its shortest, its best and its longest: kernels are loaded when first run.

        Raises StartError.
        """
        for profile in self._profiles:
            for size in ("least", "best", "most"):
                prompts, tokens, width = (
                    getattr(span, size) for span in (profile.prompts, profile.tokens, profile.candidates)
                )
                lengths = np.full(prompts, tokens, np.int32)
                candidates = np.zeros((prompts, width), np.int32)
                batch = Batch(np.zeros((prompts, tokens), np.int32), lengths, candidates)
                try:
                    self.submit(batch).wait()
                except EngineLostError as error:
                    raise self._not_warm(prompts, tokens, str(error)) from error

    def submit(self, batch: Batch) -> Submission:
        """Raises InvalidRequestError for a batch beyond the limits, EngineLostError once something failed."""
        if self._lost is not None:
            raise EngineLostError(self._lost)
        (prompts, tokens), candidates = batch.token_ids.shape, batch.candidates.shape[1]
        profile = self._runtime.profile_for(prompts, tokens, candidates)
        if profile is None:
            raise InvalidRequestError(_too_large(self._profiles, prompts, tokens, candidates))
        slot = self._free.popleft()
        try:
            return _Watched(self, slot.submit(batch, profile, self._free.append))
        except EngineLostError as error:
            self.lose(str(error))
            raise

    def lose(self, reason: str) -> None:
        """Run nothing from now on."""
        self._lost = reason

    def layer_information(self) -> str:
        """What the plan runs, layer by layer with its kernels, as TensorRT's JSON."""
        return self._runtime.layer_information()

    def close(self) -> None:
        self._free.clear()
        if hasattr(self, "_runtime"):
            self._runtime.close()
            del self._runtime
        self._device.close()

    def _not_warm(self, prompts: int, tokens: int, reason: str) -> StartError:
        if speaks_of_memory(reason):
            return StartError(out_of_memory(self._device, f"more bytes for {prompts} × {tokens} tokens"))
        return StartError(f"the first batch of {prompts} × {tokens} tokens failed: {reason}")

    def _load(self, prepared: PreparedPlan, limits: EngineLimits) -> None:
        self._runtime = PlanRuntime(prepared.plan.path, self._profiles, self._device)
        sizes = limits.max_batch_size, rounded_up(limits.max_prompt_tokens), MAX_CANDIDATES
        inputs, outputs = input_layout(*sizes), output_layout(sizes[0], sizes[2])
        for layout in (inputs, outputs):
            for tensor in layout.tensors.values():
                self._runtime.check_tensor(tensor)
        self._free.extend(Slot(self._device, self._runtime, inputs, outputs) for _ in range(_DEPTH))
        self.event_cost_ns = self._device.event_cost_ns()


@dataclass(frozen=True)
class _Watched:
    """A submission that tells its engine when it was lost."""

    engine: TensorRtEngine
    submission: Submission

    def wait(self) -> Outcome:
        try:
            return self.submission.wait()
        except EngineLostError as error:
            self.engine.lose(str(error))
            raise


@dataclass(frozen=True)
class PreparedPlan:
    """build_seconds: of the plan and the weights it was built from."""

    plan: CachedPlan
    recipe: PlanRecipe
    build_seconds: float


def prepare_plan(
    checkpoint: Checkpoint, limits: EngineLimits, precision: str, tf32: bool, ordinal: int = 0
) -> PreparedPlan:
    """Build the plan, or find it, without loading it. Raises StartError."""
    device = CudaContext(ordinal)
    try:
        return _prepare(device, checkpoint, limits, precision, tf32)
    finally:
        device.close()


def _prepare(
    device: CudaContext, checkpoint: Checkpoint, limits: EngineLimits, precision: str, tf32: bool
) -> PreparedPlan:
    start = time.perf_counter()
    weights = weights_as(checkpoint, _DTYPES[precision])
    converted = time.perf_counter() - start
    graph = build_graph(
        checkpoint.geometry, weights, rounded_up(limits.max_prompt_tokens), softmax_in_float32=False
    )
    options = BuildOptions(precision, tf32, profiles_for(limits))
    timings = TimingCacheFile(trt.__version__, device.name, device.compute_capability)
    recipe = PlanRecipe(
        weights=checkpoint.fingerprint,
        graph=graph_fingerprint(graph.model),
        tensorrt=trt.__version__,
        device=device.name,
        compute_capability=device.compute_capability,
        precision=precision,
        tf32=tf32,
        profiles=options.profiles,
        settings=options.settings,
    )
    size = sum(tensor.elements for tensor in weights.values()) * ITEM_SIZES[_DTYPES[precision]]

    def build(path: Path) -> str:
        no_memory = out_of_memory(device, f"{size:,} bytes for the weights, and more to try kernels with,")
        return build_plan(graph, options, timings, path, no_memory)

    plan = find_or_build(recipe, size, build)
    return PreparedPlan(plan, recipe, converted + plan.build_seconds)


def _describe(device: CudaContext, prepared: PreparedPlan, seconds: float) -> EngineDescription:
    recipe = prepared.recipe
    precision = "tf32" if recipe.tf32 else recipe.precision
    if recipe.tf32:
        log.info("TF32: float32 products run on the tensor cores with 10 bits of mantissa")
    unknown = PeakFlops(0.0, f"unknown: {device.name} is not in the table; give --peak-flops")
    return EngineDescription(
        name="tensorrt",
        version=trt.__version__,
        precision=precision,
        device=device.name,
        peak=datasheet_peak(device.name, recipe.precision, recipe.tf32) or unknown,
        fingerprint=recipe.fingerprint,
        load_seconds=seconds - prepared.build_seconds,
        build_seconds=prepared.build_seconds,
    )


def _too_large(profiles: tuple[Profile, ...], prompts: int, tokens: int, candidates: int) -> str:
    most = profiles[-1]
    return (
        f"a batch of {prompts} prompts, {tokens} tokens and {candidates} candidates each is more than the "
        f"{most.prompts.most}, {most.tokens.most} and {most.candidates.most} it takes: send fewer"
    )
