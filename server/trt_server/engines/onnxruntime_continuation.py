"""Prompts that go on after a shared prefix, on ONNX Runtime: keys and values are computed once and kept."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores
from trt_server.engines.prefix_store import PrefixStore
from trt_server.errors import ScoringError
from trt_server.model.geometry import Geometry
from trt_server.model.graph import OUTPUTS, past_inputs, present_outputs

Values = list[ort.OrtValue]


@dataclass(frozen=True)
class Block:
    """A prefix's keys and values, each float32 [1, key_value_heads, tokens, head_size], as past_inputs."""

    tokens: int
    values: Values


class Continuation:
    """A session of the graph with a past, and the prefixes that were computed with it."""

    def __init__(self, session: ort.InferenceSession, geometry: Geometry, limit_bytes: int) -> None:
        self._session = session
        self._past_names = past_inputs(geometry.layers)
        self._present_names = present_outputs(geometry.layers)
        heads, size = geometry.key_value_heads, geometry.head_size
        bytes_per_token = len(self._past_names) * heads * size * np.dtype(np.float32).itemsize
        self.store: PrefixStore[Block] = PrefixStore(limit_bytes, bytes_per_token)
        nothing = ort.OrtValue.ortvalue_from_numpy(np.zeros((1, heads, 0, size), np.float32))
        self.empty = Block(0, [nothing] * len(self._past_names))

    def compute_prefix(self, token_ids: NDArray[np.int32]) -> tuple[Block, int]:
        """Keys and values of int32 [tokens], and the nanoseconds of the run. They are in the store then."""
        tokens, one = len(token_ids), np.zeros((1, 1), np.int32)
        batch = Batch(token_ids[np.newaxis], np.full(1, tokens, np.int32), one)
        values, core_ns = self._run(batch, np.zeros(1, np.int32), self.empty.values, self._present_names)
        block = Block(tokens, values)
        self.store.put(token_ids, block)
        return block, core_ns

    def score(self, batch: Batch, past_lengths: NDArray[np.int32], past: Values) -> tuple[Scores, int]:
        """Scores of what follows the past, and the nanoseconds of the run."""
        outputs, core_ns = self._run(batch, past_lengths, past, list(OUTPUTS))
        return Scores(*(value.numpy() for value in outputs)), core_ns

    def _run(
        self, batch: Batch, past_lengths: NDArray[np.int32], past: Values, outputs: list[str]
    ) -> tuple[Values, int]:
        arrays = {
            "token_ids": batch.token_ids,
            "lengths": batch.lengths,
            "candidates": batch.candidates,
            "past_lengths": past_lengths,
        }
        inputs = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        inputs |= dict(zip(self._past_names, past, strict=True))
        start = time.perf_counter_ns()
        try:
            values = self._session.run_with_ort_values(outputs, inputs)
        except Exception as error:
            raise failed_on_batch(error) from error
        return values, time.perf_counter_ns() - start


@dataclass(frozen=True)
class ContinuedSubmission:
    """A batch whose prompts begin with prefixes; those that are not in the store are computed first."""

    continuation: Continuation
    batch: Batch

    def wait(self) -> Outcome:
        """Run the batch. Core time has the prefixes' computation in it. Raises ScoringError."""
        blocks: list[Block] = []
        reused: list[int] = []
        core_ns = 0
        for token_ids in self.batch.prefixes:
            block, computed_ns = self._block(token_ids)
            blocks.append(block)
            reused.append(0 if computed_ns else block.tokens)
            core_ns += computed_ns
        start = time.perf_counter_ns()
        past = stack(blocks)
        copied_ns = time.perf_counter_ns() - start
        past_lengths = np.array([block.tokens for block in blocks], np.int32)
        scores, scored_ns = self.continuation.score(self.batch, past_lengths, past)
        return Outcome(scores, EngineTiming(copied_ns, core_ns + scored_ns, 0), tuple(reused))

    def _block(self, token_ids: NDArray[np.int32]) -> tuple[Block, int]:
        """The prefix's block, and the nanoseconds it took to compute: 0 where it was there."""
        if not len(token_ids):
            return self.continuation.empty, 0
        block = self.continuation.store.get(token_ids)
        return self.continuation.compute_prefix(token_ids) if block is None else (block, 0)


def stack(blocks: list[Block]) -> Values:
    """The pasts of a batch: one for all prompts where they share it, else one each, padded on the right."""
    if all(block is blocks[0] for block in blocks):
        return blocks[0].values
    longest = max(block.tokens for block in blocks)
    return [
        ort.OrtValue.ortvalue_from_numpy(np.concatenate([_padded(value, longest) for value in values]))
        for values in zip(*(block.values for block in blocks), strict=True)
    ]


def _padded(value: ort.OrtValue, tokens: int) -> NDArray[np.float32]:
    array: NDArray[np.float32] = value.numpy()
    return np.pad(array, ((0, 0), (0, 0), (0, tokens - array.shape[2]), (0, 0)))


def failed_on_batch(error: Exception) -> ScoringError:
    """A session on the CPU keeps nothing from one run to the next: the engine is not lost."""
    return ScoringError(f"ONNX Runtime failed on this batch: {' '.join(str(error).split())}")
