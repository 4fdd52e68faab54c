"""The way from a checkpoint to the plan that its engine loads: weights, graph and profiles, built or cached.

Nothing here needs a device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trt_server.devices.memory import host_memory
from trt_server.engines.engine import MAX_TOP_TOKENS, EngineLimits
from trt_server.engines.tensorrt.library import FLAVOUR, VERSION
from trt_server.engines.tensorrt.plan.attention_graph import graph_opset
from trt_server.engines.tensorrt.plan.build import BuildOptions, build_plan
from trt_server.engines.tensorrt.plan.cache import (
    BuiltPlan,
    CachedPlan,
    PlanRecipe,
    cached_recipe_for,
    find_or_build,
    graph_fingerprint,
)
from trt_server.engines.tensorrt.plan.kv_cache import KvCacheLayout
from trt_server.engines.tensorrt.plan.profiles import LENGTH_MULTIPLE, profiles_for, rounded_up
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.model.files.weights import Weights
from trt_server.model.graph.scoring_graph import Graph, build_graph
from trt_server.model.precision import item_bytes, weights_type
from trt_server.readable import readable_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedPlan:
    """A plan that is ready to be loaded.

    Attributes:
        past: The layout of its KV cache; None where it takes none.
        build_seconds: How long the plan and the weights that it was built from took to make.
    """

    plan: CachedPlan
    recipe: PlanRecipe
    past: KvCacheLayout | None
    build_seconds: float


def prepare_for(
    target: PlanTarget,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    precision: str,
    tf32: bool,
    no_memory: Callable[[str], str],
    opset: int | None = None,
) -> PreparedPlan:
    """Build the plan for this target or find it in the cache, without loading it.

    Args:
        target: The devices that the plan is for.
        checkpoint: The model.
        limits: The largest batch that the plan has to accept.
        precision: "fp16" or "fp32".
        tf32: Whether fp32 products may run in TF32.
        no_memory: Returns the text of the error where memory does not suffice for what it is given.
        opset: The opset of the graph; None: the one that suits this TensorRT best.

    Raises:
        StartError: The plan cannot be built.
    """
    start = time.perf_counter()
    weights = weights_as(checkpoint, weights_type(precision))
    converted = time.perf_counter() - start
    past, max_prefix_tokens = _past_layout(checkpoint, limits, precision)
    options = BuildOptions(precision, tf32, profiles_for(limits, max_prefix_tokens), past)
    opset = opset or graph_opset(FLAVOUR, VERSION, precision)
    graph = _graph(checkpoint, weights, limits, past is not None, opset)
    recipe = cached_recipe_for(_recipe(checkpoint, graph, options, target))
    size = sum(tensor.elements for tensor in weights.values()) * item_bytes(precision)

    def build(path: Path) -> BuiltPlan:
        _check_host_memory(size)
        needed = f"{size:,} bytes for the weights, and more to try kernels with,"
        return build_plan(graph, options, recipe.target, path, no_memory(needed))

    plan = find_or_build(recipe, str(checkpoint.folder), size, build)
    return PreparedPlan(plan, recipe, past, converted + plan.build_seconds)


def _graph(
    checkpoint: Checkpoint, weights: Weights, limits: EngineLimits, with_past: bool, opset: int
) -> Graph:
    # The KV cache need not end at a multiple, so that padding may begin up to one multiple later.
    positions = rounded_up(limits.max_prompt_tokens) + (LENGTH_MULTIPLE if with_past else 0)
    return build_graph(
        checkpoint.geometry,
        weights,
        positions,
        softmax_in_float32=False,
        with_past=with_past,
        opset=opset,
        top_tokens=top_tokens(checkpoint),
    )


def _recipe(checkpoint: Checkpoint, graph: Graph, options: BuildOptions, target: PlanTarget) -> PlanRecipe:
    return PlanRecipe(
        weights=checkpoint.fingerprint,
        graph=graph_fingerprint(graph.model),
        library=FLAVOUR.module,
        version=VERSION,
        target=target,
        precision=options.precision,
        tf32=options.tf32,
        profiles=options.profiles,
        settings=options.settings,
    )


def top_tokens(checkpoint: Checkpoint) -> int:
    """Return how many of the most likely tokens the plan computes for each scored position."""
    return min(MAX_TOP_TOKENS, checkpoint.geometry.vocabulary_size)


def _check_host_memory(size: int) -> None:
    """Check that the host has memory for the weights, `size` bytes, which a build holds at least once.

    Raises:
        StartError: It has less.
    """
    free = host_memory().free
    if size > free:
        raise StartError(
            f"a build holds the weights, {readable_bytes(size)}, in the host's memory, of which "
            f"{readable_bytes(free)} are free: stop what else runs here, or take a smaller model"
        )


def _past_layout(
    checkpoint: Checkpoint, limits: EngineLimits, precision: str
) -> tuple[KvCacheLayout | None, int]:
    """Return the layout of the KV cache and the length of the longest prefix; None and 0 where none fits."""
    layout = KvCacheLayout.of(checkpoint.geometry, item_bytes(precision))
    tokens = layout.max_tokens(limits.prefix_cache_bytes)
    if limits.prefix_cache_bytes and not tokens:
        log.warning(
            "no prefix is kept: --prefix-cache-bytes %d holds not even %d tokens of this model",
            limits.prefix_cache_bytes,
            LENGTH_MULTIPLE,
        )
    return (layout, tokens) if tokens else (None, 0)
