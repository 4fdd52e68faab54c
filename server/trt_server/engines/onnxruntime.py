"""ONNX Runtime on the CPU, in fp32: the engine that runs everywhere."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

# From 1.29 on ONNX Runtime writes an identifier into the home folder and sends telemetry about what it runs,
# which would also disturb what is measured here.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from trt_common.one_line import one_line

from trt_server.devices.cores import usable_cores
from trt_server.devices.device import processor_name
from trt_server.engines.cpu_peak import CpuPeak
from trt_server.engines.engine import (
    Batch,
    EngineDescription,
    EngineLimits,
    EngineTiming,
    Outcome,
    PeakFlops,
    next_token_batch,
)
from trt_server.engines.onnxruntime_continuation import Continuation, ContinuedSubmission
from trt_server.engines.onnxruntime_session import ScoringSession
from trt_server.errors import StartError
from trt_server.model.checkpoint import Checkpoint
from trt_server.model.conversion import weights_as
from trt_server.model.geometry import Geometry
from trt_server.model.graph import IR_VERSIONS, OPSET, Graph, build_graph, build_head
from trt_server.model.weights import Weights

# With n blocks (n - 1) / 2n of the attention scores are not computed, so more than eight save little. At 805
# tokens (100 M parameters, 2 cores) eight took 12 % less processor time than one, and an eighth of the memory
# for scores.
_QUERY_BLOCKS = 8
_WARM_UP_TOKENS = 128


class OnnxRuntimeEngine:
    """The engine on ONNX Runtime's CPU provider.

    Its depth is 1: the CPU has no second queue in which a batch could wait.
    """

    depth = 1
    length_multiple = 1
    max_candidates: int | None = None

    def __init__(self, checkpoint: Checkpoint, limits: EngineLimits, threads: int = 0) -> None:
        """Load the model.

        Args:
            checkpoint: The model.
            limits: The largest batch it has to accept.
            threads: CPU threads; 0: as many as the cores that this process may use.

        Raises:
            StartError: ONNX Runtime does not accept the model.
        """
        start = time.perf_counter()
        self._threads = threads or usable_cores()
        self._limits = limits
        self.max_scored_positions = limits.max_scored_positions
        weights = weights_as(checkpoint, "float32")
        converted = time.perf_counter()
        geometry = checkpoint.geometry
        graph = build_graph(geometry, weights, limits.max_prompt_tokens, _QUERY_BLOCKS)
        head = _open_session(build_head(geometry, weights), self._threads)
        whole = _open_session(graph, self._threads)
        self._session = ScoringSession(whole, head, geometry.vocabulary_size)
        self._continuation = self._open_continuation(geometry, weights, head)
        self.prefixes = self._continuation.store if self._continuation else None
        loaded = time.perf_counter()
        self._peak = CpuPeak(
            partial(_matrix_product, self._threads), self._threads, "fp32 matrix products", blocking=True
        )
        self.description = EngineDescription(
            name="onnxruntime",
            version=ort.__version__,
            precision="fp32",
            device=processor_name(),
            peak=self._peak.measure(),
            fingerprint=_fingerprint(checkpoint, graph),
            load_seconds=loaded - converted,
            build_seconds=converted - start,
        )

    def warm_up(self) -> None:
        """Run one prompt.

        All lengths run the same code, and the first run reads the weights from their file.
        """
        length = min(_WARM_UP_TOKENS, self._limits.max_prompt_tokens)
        tokens, candidates = np.zeros((1, length), np.int32), np.zeros((1, 1), np.int32)
        self.submit(next_token_batch(tokens, np.full(1, length, np.int32), candidates)).wait()

    def submit(self, batch: Batch) -> _Submission | ContinuedSubmission:
        """Return the batch as a submission, which is computed when it is waited for."""
        if self._continuation is not None and batch.prefix is not None:
            return ContinuedSubmission(self._continuation, batch, batch.prefix)
        return _Submission(self._session, batch)

    def measure_peak(self) -> PeakFlops:
        """Time matrix products once more, and return the largest rate so far."""
        return self._peak.measure()

    def close(self) -> None:
        """Free the sessions and the stored prefixes."""
        del self._session, self._continuation, self.prefixes

    def _open_continuation(
        self, geometry: Geometry, weights: Weights, head: ort.InferenceSession
    ) -> Continuation | None:
        """Open a second session for prompts with a prefix.

        All sessions map the same file of weights, so that it is in memory once.
        """
        if not self._limits.prefix_cache_bytes:
            return None
        positions = self._limits.max_prompt_tokens
        graph = build_graph(geometry, weights, positions, with_past=True)
        whole = _open_session(graph, self._threads)
        session = ScoringSession(whole, head, geometry.vocabulary_size)
        return Continuation(session, geometry, self._limits.prefix_cache_bytes)


@dataclass(frozen=True)
class _Submission:
    session: ScoringSession
    batch: Batch

    def wait(self) -> Outcome:
        """Run the batch.

        Raises:
            ScoringError: ONNX Runtime failed on this batch; the engine is not lost.
        """
        scores, core_ns = self.session.score(self.batch)
        return Outcome(scores, EngineTiming(0, core_ns, 0))


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Packed copies of the weights ran no faster, and weights in their mapped file are shared memory.
    options.add_session_config_entry("session.disable_prepacking", "1")
    # Threads that spin while they wait take a core from the client that sends the next request.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory patterns are cached for each length, and lengths are many.
    options.enable_mem_pattern = False
    return options


def _open_session(graph: Graph, threads: int) -> ort.InferenceSession:
    options = _session_options(threads)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(graph.weights_folder)
    )
    try:
        return ort.InferenceSession(
            graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise StartError(
            f"ONNX Runtime {ort.__version__} does not take the model: {one_line(error)}"
        ) from error


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


def _fingerprint(checkpoint: Checkpoint, graph: Graph) -> str:
    digest = hashlib.sha256(f"onnxruntime {ort.__version__} fp32 {checkpoint.fingerprint}\n".encode())
    for node in graph.model.graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return digest.hexdigest()
