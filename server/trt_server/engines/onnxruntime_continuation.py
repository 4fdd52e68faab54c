"""Prompts that continue a shared prefix, on ONNX Runtime: the prefix's keys and values are computed once."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Outcome, next_token_batch
from trt_server.engines.onnxruntime_session import ScoringSession
from trt_server.engines.prefix_store import PrefixStore
from trt_server.model.geometry import Geometry
from trt_server.model.graph import kept_outputs, past_inputs

# float32 [1, key_value_heads, tokens, head_size] each, in the order of past_inputs.
KeysAndValues = list[ort.OrtValue]

# A prefix is computed in pieces (chunked prefill): no scores are computed between a query and the tokens
# after its piece, and only one piece's scores are in memory at a time.
_PIECE_TOKENS = 256


class Continuation:
    """A session of the graph that takes keys and values as inputs, and the store of its prefixes."""

    def __init__(self, session: ScoringSession, geometry: Geometry, limit_bytes: int) -> None:
        self._session = session
        self._past_names = past_inputs(geometry.layers)
        self._kept_names = kept_outputs(geometry.layers)
        heads, size = geometry.key_value_heads, geometry.head_size
        self._bytes_per_token = len(self._past_names) * heads * size * np.dtype(np.float32).itemsize
        max_tokens = limit_bytes // self._bytes_per_token
        self.store: PrefixStore[KeysAndValues] = PrefixStore(limit_bytes, max_tokens)
        nothing = ort.OrtValue.ortvalue_from_numpy(np.zeros((1, heads, 0, size), np.float32))
        self._nothing = [nothing] * len(self._past_names)

    def score(self, batch: Batch, prefix: NDArray[np.int32]) -> Outcome:
        """Score the prompts of a batch, each of which continues `prefix`.

        Args:
            batch: What follows the prefix.
            prefix: int32 [tokens]; it is computed first where it is not in the store, and core time includes
                that.

        Raises:
            ScoringError: ONNX Runtime failed on this batch.
        """
        past = self.store.get(prefix)
        timing = EngineTiming(0, 0, 0)
        reused = past is not None
        if past is None:
            past, timing = self._compute(prefix)
            self.store.put(prefix, past, len(prefix) * self._bytes_per_token)
        nothing = np.zeros(0, np.int32)
        scores, core_ns = self._session.score(batch, self._past(past, len(prefix), nothing))
        return Outcome(scores, timing + EngineTiming(0, core_ns, 0), reused)

    def _compute(self, prefix: NDArray[np.int32]) -> tuple[KeysAndValues, EngineTiming]:
        values, timing = self._nothing, EngineTiming(0, 0, 0)
        for start in range(0, len(prefix), _PIECE_TOKENS):
            piece = prefix[start : start + _PIECE_TOKENS]
            tokens, no_candidates = np.full(1, len(piece), np.int32), np.zeros((1, 1), np.int32)
            batch = next_token_batch(piece[np.newaxis], tokens, no_candidates, first_position=start)
            past = self._past(values, start, np.arange(len(piece), dtype=np.int32))
            before = time.perf_counter_ns()
            new = self._session.run(self._kept_names, batch, past)
            core_ns = time.perf_counter_ns() - before
            before = time.perf_counter_ns()
            values = _appended(values, new) if start else new
            timing += EngineTiming(time.perf_counter_ns() - before, core_ns, 0)
        return values, timing

    def _past(self, values: KeysAndValues, length: int, kept: NDArray[np.int32]) -> dict[str, ort.OrtValue]:
        """What the graph takes besides a batch."""
        arrays = {"past_length": np.full(1, length, np.int32), "kept": kept}
        inputs = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        return inputs | dict(zip(self._past_names, values, strict=True))


@dataclass(frozen=True)
class ContinuedSubmission:
    """A batch whose prompts continue a shared prefix; it is computed when it is waited for."""

    continuation: Continuation
    batch: Batch
    prefix: NDArray[np.int32]

    def wait(self) -> Outcome:
        """Run the batch.

        Raises:
            ScoringError: ONNX Runtime failed on it.
        """
        return self.continuation.score(self.batch, self.prefix)


def _appended(values: KeysAndValues, new: KeysAndValues) -> KeysAndValues:
    return [
        ort.OrtValue.ortvalue_from_numpy(np.concatenate([before.numpy(), after.numpy()], axis=2))
        for before, after in zip(values, new, strict=True)
    ]
