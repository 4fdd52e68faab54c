"""The build of a plan file from an ONNX graph, with TensorRT 8.6, 10, 11 and TensorRT-RTX."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_common.one_line import one_line

from trt_server.cache.cache_file import CacheFile
from trt_server.engines.tensorrt.library import FLAVOUR, IS_RTX, TITLE, VERSION, trt
from trt_server.engines.tensorrt.messages import MESSAGES, is_out_of_memory, no_device
from trt_server.engines.tensorrt.plan.cache import BuiltPlan
from trt_server.engines.tensorrt.plan.capabilities import set_targets
from trt_server.engines.tensorrt.plan.file import PlanFile
from trt_server.engines.tensorrt.plan.kv_cache import KvCacheLayout, input_shapes
from trt_server.engines.tensorrt.plan.profiles import Profile
from trt_server.engines.tensorrt.plan.progress import BuildProgress
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.errors import StartError
from trt_server.model.graph.scoring_graph import Graph
from trt_server.readable import megabytes

log = logging.getLogger(__name__)

# Libraries that are not part of a TensorRT wheel. From 8.6 on their kernels are not chosen for such networks
# anyway; without them as sources they need not be installed, nor loaded into the device's memory.
_OUTSIDE_LIBRARIES = ("CUBLAS", "CUBLAS_LT", "CUDNN")
# Layers that have no precision of their own in networks that are not strongly typed.
_UNTYPED_LAYERS = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "ASSERTION")


@dataclass(frozen=True)
class BuildOptions:
    """What the builder is told besides the graph.

    Attributes:
        precision: "fp16" or "fp32".
        tf32: Whether fp32 products may run on the tensor cores.
        profiles: The shapes that the plan accepts.
        past: How the KV cache lies in memory; None where the graph takes none.
    """

    precision: str
    tf32: bool
    profiles: tuple[Profile, ...]
    past: KvCacheLayout | None = None

    @property
    def settings(self) -> tuple[str, ...]:
        """The builder's other settings, which are part of a plan's fingerprint."""
        typing = "strongly typed" if _strongly_typed() else "fp32 pinned"
        return (typing, f"without {' '.join(_OUTSIDE_LIBRARIES)}")


def build_plan(
    graph: Graph,
    options: BuildOptions,
    target: PlanTarget,
    path: Path,
    no_memory: str,
) -> BuiltPlan:
    """Build the plan and write it to `path`.

    Args:
        graph: What the plan computes.
        options: The precision and the shapes.
        target: The devices that the plan is for.
        path: The file to write.
        no_memory: The text of the error where memory does not suffice.

    Raises:
        StartError: TensorRT does not accept the graph or does not build it.
        OSError: The file cannot be written.
    """
    start = time.perf_counter()
    MESSAGES.forget_errors()
    MESSAGES.take_layers()
    builder = _builder()
    network = builder.create_network(_network_flags())
    _parse(network, graph)
    log.info("parsed the graph: %d layers, %.1f s", network.num_layers, time.perf_counter() - start)
    if not _strongly_typed():
        pinned, products = _pin_float32(network)
        unexpected = products and options.precision == "fp16"
        level = logging.WARNING if unexpected else logging.INFO
        log.log(level, "%d layers stay in float32, %d of them matrix products", pinned, products)
    config = _config(builder, options)
    set_targets(config, target)
    timings = None if IS_RTX else _Timings(config, target)
    log.info("building the plan for %s; this takes minutes for billions of parameters", target)
    with PlanFile(path) as plan, BuildProgress.show(config):
        written = plan.build(builder, network, config)
    if not written:
        raise _not_built(no_memory)
    if timings is not None:
        timings.keep()
    log.info("built the plan: %s, %.1f s", megabytes(plan.bytes), time.perf_counter() - start)
    return BuiltPlan(plan.digest, MESSAGES.take_layers())


def _builder() -> trt.Builder:
    try:
        return trt.Builder(MESSAGES)
    except TypeError as error:
        raise no_device() from error


def _strongly_typed() -> bool:
    """Return whether every tensor has the type that the graph gives it: not in 8.6, always in 11."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _network_flags() -> int:
    name = "STRONGLY_TYPED" if _strongly_typed() else "EXPLICIT_BATCH"
    return 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))


def _parse(network: trt.INetworkDefinition, graph: Graph) -> None:
    parser = trt.OnnxParser(network, MESSAGES)
    # The parser finds the weights relative to this path's folder; the file itself need not exist.
    path = str(graph.weights_folder / "graph.onnx")
    # Before 10.13 the bindings read the buffer with the GIL released. That is safe for bytes that no other
    # thread has a reference to.
    if parser.parse(graph.model.SerializeToString(), path):
        return
    if missing := _missing_weights(graph):
        raise StartError(missing)
    errors = [_describe(parser.get_error(number), graph) for number in range(parser.num_errors)]
    reason = "; ".join(dict.fromkeys(errors)) or MESSAGES.take_errors() or "it gives no reason"
    raise StartError(f"{TITLE} does not take the model: {reason}")


def _missing_weights(graph: Graph) -> str | None:
    """Return which file of weights has gone or was cut short.

    The parser only names the tensor that it cannot read.
    """
    for array in graph.model.graph.initializer:
        place = {entry.key: entry.value for entry in array.external_data}
        if not place:
            continue
        file = graph.weights_folder / place["location"]
        size = file.stat().st_size if file.is_file() else 0
        if size < int(place["offset"]) + int(place["length"]):
            what = "was cut short" if size else "is not there any more"
            return f"{file} {what}, which the model's weights were read from: start again once it is whole"
    return None


def _describe(error: trt.ParserError, graph: Graph) -> str:
    nodes, number = graph.model.graph.node, error.node()
    where = f" at {nodes[number].name}" if 0 <= number < len(nodes) else ""
    return one_line(f"{error.desc()}{where}")


def _pin_float32(network: trt.INetworkDefinition) -> tuple[int, int]:
    """Keep in float32 what the graph computes in float32, where the builder could choose fp16 (TensorRT 8.6).

    Returns:
        How many layers are kept in float32, and how many of them are matrix products.
    """
    pinned: list[Any] = []
    untyped = {getattr(trt.LayerType, name) for name in _UNTYPED_LAYERS if hasattr(trt.LayerType, name)}
    for number in range(network.num_layers):
        layer: Any = network.get_layer(number)
        if layer.type in untyped:
            continue
        outputs = [index for index in range(layer.num_outputs) if _is_float32(layer.get_output(index))]
        if outputs:
            layer.precision = trt.float32
            pinned.append(layer.type)
        for index in outputs:
            layer.set_output_type(index, trt.float32)
    return len(pinned), pinned.count(trt.LayerType.MATRIX_MULTIPLY)


def _is_float32(tensor: trt.ITensor) -> bool:
    return bool(tensor.dtype == trt.float32) and not tensor.is_shape_tensor


def _config(builder: trt.Builder, options: BuildOptions) -> trt.IBuilderConfig:
    # The workspace has no limit: the scores of unfused attention are part of it, and a limit would exclude
    # kernels that need more, or all of them.
    config = builder.create_builder_config()
    sources = config.get_tactic_sources()
    for name in _OUTSIDE_LIBRARIES:
        if hasattr(trt.TacticSource, name):
            sources &= ~(1 << int(getattr(trt.TacticSource, name)))
    config.set_tactic_sources(sources)
    # The names of layers and kernels stay readable in the plan; that costs nothing at run time.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not _strongly_typed():
        if options.precision == "fp16":
            config.set_flag(getattr(trt.BuilderFlag, "FP16"))  # noqa: B009
        config.set_flag(getattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"))  # noqa: B009
    for profile in options.profiles:
        _add_profile(builder, config, profile, options.past)
    return config


def _add_profile(
    builder: trt.Builder, config: trt.IBuilderConfig, profile: Profile, past: KvCacheLayout | None
) -> None:
    shapes = builder.create_optimization_profile()
    for name, (least, best, most) in input_shapes(profile, past).items():
        shapes.set_shape(name, least, best, most)
    if config.add_optimization_profile(shapes) < 0:
        raise StartError(f"{TITLE} refuses the profile {profile}: {MESSAGES.take_errors()}")


def _not_built(no_memory: str) -> StartError:
    reason = MESSAGES.take_errors() or "it gives no reason"
    if is_out_of_memory(reason):
        return StartError(no_memory)
    return StartError(f"{TITLE} does not build the model: {reason}")


class _Timings:
    """The timing cache: times of kernels on this kind of device, which later builds need not measure.

    TensorRT-RTX times no kernels and has none.
    """

    def __init__(self, config: trt.IBuilderConfig, target: PlanTarget) -> None:
        """Set the cache on the builder's configuration.

        Raises:
            StartError: TensorRT accepts no timing cache.
        """
        self._file = CacheFile(
            "timings", FLAVOUR.module, VERSION, target.device, *target.capabilities, suffix="timing"
        )
        self._cache = self._set(config)

    def keep(self) -> None:
        """Write what the build has measured."""
        self._file.write(bytes(memoryview(self._cache.serialize())))

    def _set(self, config: trt.IBuilderConfig) -> trt.ITimingCache:
        """Return the cached timings; an empty cache where TensorRT does not accept the file."""
        for content in (self._file.read(), b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, False):
                return cache
            MESSAGES.take_errors()
        raise StartError(f"{TITLE} takes no timing cache, not even an empty one")
