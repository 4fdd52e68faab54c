"""ONNX Runtime on the CPU, in fp32: the engine that runs everywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

# From 1.29 on ONNX Runtime writes an identifier into the home folder and sends telemetry about what it runs,
# which would also disturb what is measured here.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from trt_common.model.geometry import Geometry
from trt_common.one_line import one_line

from trt_server.devices.cores import usable_cores
from trt_server.engines.continuation import Continuation
from trt_server.engines.cpu_engine import CpuEngine, CpuGraphs, CpuLibrary
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import EngineLimits
from trt_server.engines.split_graph import Arrays, SplitGraph
from trt_server.errors import ScoringError, StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.model.files.weights import Weights
from trt_server.model.graph.scoring_graph import IR_VERSIONS, OPSET, Graph, build_body, build_head

# With n blocks (n - 1) / 2n of the attention scores are not computed, so more than eight save little. At 805
# tokens (100 M parameters, 2 cores) eight took 12 % less processor time than one, and an eighth of the memory
# for scores.
_QUERY_BLOCKS = 8


class OnnxRuntimeEngine(CpuEngine):
    """The engine on ONNX Runtime's CPU provider, in fp32."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: EngineLimits,
        threads: int = 0,
        *,
        peak_flops: float | None = None,
    ) -> None:
        """Load the model.

        Args:
            checkpoint: The model.
            limits: The largest batch it has to accept.
            threads: CPU threads; 0: as many as the cores that this process may use.
            peak_flops: FLOP/s of the processor; None: they are measured.

        Raises:
            StartError: ONNX Runtime does not accept the model.
        """
        start = time.perf_counter()
        threads = threads or usable_cores()
        weights = weights_as(checkpoint, "float32")
        converted = time.perf_counter()
        graphs = _load(checkpoint.geometry, weights, limits, threads)
        loaded = time.perf_counter()
        peak = CpuPeak(
            partial(_matrix_product, threads),
            threads,
            "fp32 matrix products",
            blocking=True,
            given=peak_flops,
        )
        super().__init__(
            CpuLibrary("onnxruntime", ort.__version__, "fp32"),
            checkpoint,
            limits,
            graphs,
            peak,
            load_seconds=loaded - converted,
            build_seconds=converted - start,
        )


# Without it ONNX Runtime computes the outputs that nobody asks for too.
_ONLY_WHAT_IS_ASKED = ort.RunOptions()
_ONLY_WHAT_IS_ASKED.only_execute_path_to_fetches = True


@dataclass(frozen=True)
class _Session:
    """A graph in ONNX Runtime."""

    session: ort.InferenceSession

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Compute these outputs of the graph.

        Raises:
            ScoringError: ONNX Runtime failed on these inputs.
        """
        # Memory that is not of one piece is read as if it were.
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            found: list[NDArray[Any]] = self.session.run(list(outputs), arrays, _ONLY_WHAT_IS_ASKED)
        except Exception as error:
            raise ScoringError(f"ONNX Runtime failed on this batch: {one_line(error)}") from error
        return found


# Sessions run one after the other. With memory of its own each would hold what its largest batch took: 313
# MiB in place of 167, after batches of every kind up to 16,384 tokens of a small model.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT), None
)


def _load(geometry: Geometry, weights: Weights, limits: EngineLimits, threads: int) -> CpuGraphs:
    """Open the model's graphs; those that continue prefixes where any are stored."""
    positions = limits.max_prompt_tokens
    body = build_body(geometry, weights, positions, _QUERY_BLOCKS)
    head = _open(build_head(geometry, weights), threads)
    plain = SplitGraph(_open(body, threads), head, geometry.vocabulary_size)
    if not limits.prefix_cache_bytes:
        return CpuGraphs(body, plain, None)
    # All sessions map the same file of weights, so that it is in memory once.
    continued = _open(build_body(geometry, weights, positions, with_past=True), threads)
    with_past = SplitGraph(continued, head, geometry.vocabulary_size)
    return CpuGraphs(body, plain, Continuation(with_past, geometry, limits.prefix_cache_bytes))


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Packed copies of the weights ran no faster, and weights in their mapped file are shared memory.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Threads that spin while they wait take a core from the client that sends the next request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Memory patterns are cached for each length, and lengths are many.
    options.enable_mem_pattern = False
    return options


def _open(graph: Graph, threads: int) -> _Session:
    options = _session_options(threads)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(graph.weights_folder)
    )
    try:
        session = ort.InferenceSession(
            graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise StartError(
            f"ONNX Runtime {ort.__version__} does not take the model: {one_line(error)}"
        ) from error
    return _Session(session)


def _matrix_product(threads: int, size: int) -> Callable[[], object]:
    """Return a function that multiplies two fp32 matrices with the code and threads that run the model."""
    shape = [size, size]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "peak",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b")],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSIONS[OPSET]
    )
    session = ort.InferenceSession(
        model.SerializeToString(), _session_options(threads), providers=["CPUExecutionProvider"]
    )
    inputs = {name: np.ones(shape, np.float32) for name in ("a", "b")}
    return partial(session.run, None, inputs)
