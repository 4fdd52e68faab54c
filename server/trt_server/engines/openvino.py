"""OpenVINO on the CPU, in fp32 or bf16."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import onnx
import openvino as ov
import openvino.properties as properties
import openvino.properties.hint as hints
from numpy.typing import NDArray
from openvino import opset13 as operators
from trt_common.one_line import one_line

from trt_server.devices.cores import usable_cores
from trt_server.devices.device import processor_name
from trt_server.engines.continuation import Continuation
from trt_server.engines.cpu_engine import CpuEngine, answers_fingerprint
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import EngineDescription, EngineLimits
from trt_server.engines.mapped_weights import MappedWeights
from trt_server.engines.split_graph import Arrays, SplitGraph
from trt_server.errors import ScoringError, StartError
from trt_server.model.checkpoint import Checkpoint
from trt_server.model.conversion import weights_as
from trt_server.model.graph import Graph, build_body, build_head

VERSION = ov.__version__.partition("-")[0]

# OpenVINO compiles code for each length that is new, which takes a tenth of a prompt's time, and computes
# fastest where its vectors are full.
_LENGTH_MULTIPLE = 16

# From here on leaving out a quarter of attention's scores is worth the copies that it takes.
_BLOCKS_FROM = 256

_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVinoEngine(CpuEngine):
    """The engine on OpenVINO's CPU device.

    The layers compute in the precision that is asked for; the head, which runs in few places, always in fp32,
    because rounded logits would be most of the error. One graph serves prompts with and without a prefix:
    OpenVINO packs the weights of each graph that it compiles for itself.
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
        geometry, positions = checkpoint.geometry, limits.max_prompt_tokens
        with_past = limits.prefix_cache_bytes > 0
        self._weights = MappedWeights(weights)
        body = build_body(geometry, weights, positions, with_past=with_past, for_openvino=True)
        graph = SplitGraph(
            _compiled(core, body, self._weights, precision, threads),
            _compiled(core, build_head(geometry, weights), self._weights, "fp32", threads),
            geometry.vocabulary_size,
            _LENGTH_MULTIPLE,
            _BLOCKS_FROM,
        )
        continuation = Continuation(graph, geometry, limits.prefix_cache_bytes) if with_past else None
        loaded = time.perf_counter()
        peak = CpuPeak(
            partial(_matrix_product, core, precision, threads),
            threads,
            f"{precision} matrix products in OpenVINO",
            blocking=False,
            given=peak_flops,
        )
        description = EngineDescription(
            name="openvino",
            version=VERSION,
            precision=precision,
            device=processor_name(),
            peak=peak.measure(),
            fingerprint=answers_fingerprint(f"openvino {VERSION} {precision}", checkpoint, body),
            load_seconds=loaded - converted,
            build_seconds=converted - start,
        )
        super().__init__(None if with_past else graph, continuation, limits, peak, description)

    def warm_up(self) -> None:
        """Run one prompt, which packs the weights, and give back the pages of their file."""
        super().warm_up()
        self._weights.drop_pages()

    def close(self) -> None:
        """Free the model and the stored prefixes."""
        super().close()
        del self._weights


@dataclass(frozen=True)
class _Compiled:
    """A graph that OpenVINO has compiled."""

    request: ov.InferRequest

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Compute all outputs of the graph, and return these.

        Raises:
            ScoringError: OpenVINO failed on these inputs.
        """
        # Memory that is not of one piece is read as if it were.
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            self.request.infer(arrays, share_inputs=True)
            # Copies: the next run writes where these lie.
            return [np.array(self.request.get_tensor(name).data) for name in outputs]
        except Exception as error:
            raise ScoringError(f"OpenVINO failed on this batch: {one_line(error)}") from error


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


def _compiled(core: ov.Core, graph: Graph, weights: MappedWeights, precision: str, threads: int) -> _Compiled:
    """Compile a graph, whose weights are read where their file lies.

    Raises:
        StartError: OpenVINO does not accept it.
    """
    try:
        model = _model(core, graph, weights)
        compiled = core.compile_model(model, "CPU", _configuration(precision, threads))
        return _Compiled(compiled.create_infer_request())
    except Exception as error:
        raise StartError(f"OpenVINO {VERSION} does not take the model: {one_line(error)}") from error


def _model(core: ov.Core, graph: Graph, weights: MappedWeights) -> ov.Model:
    """Read a graph, and put its weights in.

    OpenVINO reads weights only from below the folder of the graph's own file: nobody may be allowed to write
    one there, and links of the hub's cache lead out of it. So the weights are inputs that become constants.
    """
    without = onnx.ModelProto()
    without.CopyFrom(graph.model)
    del without.graph.initializer[:]
    names = []
    for tensor in graph.model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            names.append(tensor.name)
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            without.graph.input.append(info)
        else:
            without.graph.initializer.append(tensor)
    model = core.read_model(BytesIO(without.SerializeToString()))
    inputs = {node.get_friendly_name(): node for node in model.get_parameters()}
    for name in names:
        tensor = ov.Tensor(weights.array(name), shared_memory=True)
        inputs[name].output(0).replace(ov.op.Constant(tensor, shared_memory=True).output(0))
        model.remove_parameter(inputs[name])
    model.validate_nodes_and_infer_types()
    return model


def _matrix_product(core: ov.Core, precision: str, threads: int, size: int) -> Callable[[], object]:
    """Return a function that multiplies two square matrices with the code and threads that run the model."""
    rows = operators.parameter([size, size], _TYPES[precision])
    weight = operators.constant(np.ones((size, size), np.float32), _TYPES[precision])
    model = ov.Model([operators.matmul(rows, weight, False, True)], [rows])
    request = core.compile_model(model, "CPU", _configuration(precision, threads)).create_infer_request()
    return partial(request.infer)
