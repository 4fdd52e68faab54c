"""OpenVINO on the CPU, in fp32 or bf16."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import openvino as ov
import openvino.properties as properties
import openvino.properties.hint as hints
from numpy.typing import NDArray
from openvino import opset13 as operators
from trt_common.model.geometry import Geometry
from trt_common.one_line import one_line

from trt_server.devices.cores import usable_cores
from trt_server.devices.device import processor_name
from trt_server.engines.continuation import Continuation
from trt_server.engines.cpu_engine import CpuEngine, CpuGraphs, CpuLibrary
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import EngineLimits
from trt_server.engines.mapped_weights import MappedWeights
from trt_server.engines.openvino_model import CONTINUED, branched, read_graph, with_values_of
from trt_server.engines.split_graph import Arrays, SplitGraph
from trt_server.errors import ScoringError, StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.model.files.weights import Weights
from trt_server.model.graph.scoring_graph import Graph, build_body, build_head, kept_outputs, past_inputs

VERSION = ov.__version__.partition("-")[0]

# OpenVINO compiles code for each length that is new, which takes a tenth of a prompt's time, and computes
# fastest where its vectors are full.
_LENGTH_MULTIPLE = 16

# From here on leaving out a quarter of attention's scores is worth the copies that it takes.
_BLOCKS_FROM = 256

_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}
# NumPy has no bf16: what holds the keys and values of a prefix.
_VALUES: dict[str, type[np.generic]] = {"fp32": np.float32, "bf16": np.uint16}


class OpenVinoEngine(CpuEngine):
    """The engine on OpenVINO's CPU device.

    The layers compute in the precision that is asked for; the head, which runs in few places, always in fp32,
    because rounded logits would be most of the error. Where prefixes are stored, one model has two branches,
    with and without keys and values as inputs and outputs: those cost 3 % where nothing is in them, and
    OpenVINO packs the weights of each model that it compiles for itself.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        precision: str,
        threads: int = 0,
        *,
        peak_flops: float | None = None,
    ) -> None:
        """Load the model.

        Args:
            checkpoint: The model.
            limits: The largest batch it has to accept.
            precision: "fp32" or "bf16".
            threads: CPU threads; 0: as many as the cores that this process may use.
            peak_flops: FLOP/s of the processor; None: they are measured.

        Raises:
            StartError: OpenVINO does not accept the model, or the processor has no bf16.
        """
        start = time.perf_counter()
        threads = threads or usable_cores()
        core = ov.Core()
        _check_precision(core, precision)
        weights = weights_as(checkpoint, "float32")
        converted = time.perf_counter()
        self._weights = MappedWeights(weights)
        compiler = _Compiler(core, self._weights, threads)
        graphs = _load(compiler, checkpoint.geometry, weights, limits, precision)
        loaded = time.perf_counter()
        peak = CpuPeak(
            partial(_matrix_product, core, precision, threads),
            threads,
            f"{precision} matrix products in OpenVINO",
            blocking=False,
            given=peak_flops,
        )
        super().__init__(
            CpuLibrary("openvino", VERSION, precision),
            checkpoint,
            limits,
            graphs,
            peak,
            load_seconds=loaded - converted,
            build_seconds=converted - start,
        )

    def warm_up(self) -> None:
        """Run one prompt, alone and after a prefix, which packs the weights; give back their file's pages."""
        super().warm_up()
        if self._continuation is not None:
            self._continuation.warm_up(self._warm_up_batch())
        self._weights.drop_pages()

    def close(self) -> None:
        """Free the model and the stored prefixes."""
        super().close()
        del self._weights


class _Compiled:
    """A graph that OpenVINO has compiled."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = {node.get_any_name(): node for node in compiled.inputs}
        self._given: set[str] = set()

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Compute all outputs of the graph, and return these; bf16 values are their bits in uint16.

        An input that is not given has no elements.

        Raises:
            ScoringError: OpenVINO failed on these inputs.
        """
        left = {name: self._nothing(name) for name in self._given - inputs.keys()}
        self._given = set(inputs)
        try:
            tensors = {name: self._tensor(name, array) for name, array in inputs.items()}
            self._request.infer({**tensors, **left}, share_inputs=True)
            # Copies: the next run writes where these lie.
            return [np.array(_bits(self._request.get_tensor(name))) for name in outputs]
        except Exception as error:
            raise ScoringError(f"OpenVINO failed on this batch: {one_line(error)}") from error

    def _tensor(self, name: str, array: NDArray[Any]) -> NDArray[Any] | ov.Tensor:
        # Memory that is not of one piece is read as if it were.
        array = np.ascontiguousarray(array)
        if array.dtype != np.uint16:
            return array
        return ov.Tensor(array, list(array.shape), self._inputs[name].get_element_type())

    def _nothing(self, name: str) -> ov.Tensor:
        node = self._inputs[name]
        sizes = [size.get_length() if size.is_static else 0 for size in node.get_partial_shape()]
        return ov.Tensor(node.get_element_type(), sizes)


@dataclass(frozen=True)
class _Branch:
    """One of the two ways through a model that has branches."""

    model: _Compiled
    continued: bool

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Compute outputs of this branch.

        Raises:
            ScoringError: OpenVINO failed on these inputs.
        """
        return self.model.run(outputs, {**inputs, CONTINUED: np.full(1, self.continued)})


def _bits(tensor: ov.Tensor) -> NDArray[Any]:
    values: NDArray[Any] = tensor.data
    return values.view(np.uint16) if tensor.element_type == ov.Type.bf16 else values


@dataclass(frozen=True)
class _Compiler:
    """Compiles graphs, whose weights are read where their file lies."""

    core: ov.Core
    weights: MappedWeights
    threads: int

    def compiled(self, graph: Graph, precision: str) -> _Compiled:
        """Compile a graph.

        Raises:
            StartError: OpenVINO does not accept it.
        """
        with _told_as_start_error():
            return self._compiled(read_graph(self.core, graph, self.weights), precision)

    def compiled_branches(
        self, plain: Graph, with_past: Graph, geometry: Geometry, precision: str
    ) -> _Compiled:
        """Compile two bodies of a model as branches, with keys and values in the type that is computed in.

        Raises:
            StartError: OpenVINO does not accept them.
        """
        values = {*past_inputs(geometry.layers), *kept_outputs(geometry.layers)}
        with _told_as_start_error():
            without, continued = (read_graph(self.core, graph, self.weights) for graph in (plain, with_past))
            model = branched(without, with_values_of(continued, _TYPES[precision], values))
            return self._compiled(model, precision)

    def _compiled(self, model: ov.Model, precision: str) -> _Compiled:
        return _Compiled(self.core.compile_model(model, "CPU", _configuration(precision, self.threads)))


def _load(
    compiler: _Compiler, geometry: Geometry, weights: Weights, limits: EngineLimits, precision: str
) -> CpuGraphs:
    """Compile the model's graphs: as two branches of one model where prefixes are stored."""
    build = partial(build_body, geometry, weights, limits.max_prompt_tokens, for_openvino=True)
    body = build()
    split = partial(
        SplitGraph,
        head=compiler.compiled(build_head(geometry, weights), "fp32"),
        vocabulary_size=geometry.vocabulary_size,
        length_multiple=_LENGTH_MULTIPLE,
        blocks_from=_BLOCKS_FROM,
    )
    if not limits.prefix_cache_bytes:
        return CpuGraphs(body, split(compiler.compiled(body, precision)), None)
    both = compiler.compiled_branches(body, build(with_past=True), geometry, precision)
    after_prefix = split(_Branch(both, True))
    continuation = Continuation(after_prefix, geometry, limits.prefix_cache_bytes, _VALUES[precision])
    return CpuGraphs(body, split(_Branch(both, False)), continuation)


@contextmanager
def _told_as_start_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise StartError(f"OpenVINO {VERSION} does not take the model: {one_line(error)}") from error


def check_precision(precision: str) -> None:
    """Check that the processor has instructions for a precision.

    Raises:
        StartError: It has none.
    """
    _check_precision(ov.Core(), precision)


def _check_precision(core: ov.Core, precision: str) -> None:
    if precision == "bf16" and "BF16" not in core.get_property("CPU", properties.device.capabilities):
        raise StartError(
            f"{processor_name()} has no instructions for bf16: ask for --precision fp32, or leave it off"
        )


def _configuration(precision: str, threads: int) -> dict[Any, Any]:
    return {
        properties.inference_num_threads: threads,
        properties.num_streams: 1,
        hints.performance_mode: hints.PerformanceMode.LATENCY,
        hints.inference_precision: _TYPES[precision],
        # The process's affinity is the user's choice, and other servers may have the other cores.
        hints.enable_cpu_pinning: False,
    }


def _matrix_product(core: ov.Core, precision: str, threads: int, size: int) -> Callable[[], object]:
    """Return a function that multiplies two square matrices with the code and threads that run the model."""
    rows = operators.parameter([size, size], _TYPES[precision])
    weight = operators.constant(np.ones((size, size), np.float32), _TYPES[precision])
    model = ov.Model([operators.matmul(rows, weight, False, True)], [rows])
    request = core.compile_model(model, "CPU", _configuration(precision, threads)).create_infer_request()
    return partial(request.infer)
