"""The graph in ONNX Runtime, whose head takes no more positions at once than a stated memory holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from trt_common.one_line import one_line

from trt_server.engines.engine import Batch, Scores
from trt_server.errors import ScoringError
from trt_server.model.graph import HIDDEN, OUTPUTS, TOP_OUTPUTS

# Of one slice of positions. What becomes of them on the way to log-probabilities takes three times as much.
LOGITS_BYTES = 64 * 2**20


class ScoringSession:
    """Runs batches, and beside them parts of the graph for other outputs."""

    def __init__(self, whole: ort.InferenceSession, head: ort.InferenceSession, vocabulary_size: int) -> None:
        """Take a session of `build_graph` and one of `build_head`, of the same model."""
        self._whole = whole
        self._head = head
        self._slice = max(1, LOGITS_BYTES // (vocabulary_size * np.dtype(np.float32).itemsize))
        # Without it ONNX Runtime computes the outputs that nobody asks for too.
        self._options = ort.RunOptions()
        self._options.only_execute_path_to_fetches = True

    def score(self, batch: Batch, past: Mapping[str, ort.OrtValue] | None = None) -> tuple[Scores, int]:
        """Run a batch.

        Args:
            batch: Its prefix is not looked at.
            past: What a graph with a past takes besides.

        Returns:
            The scores, and the nanoseconds that computing them took.

        Raises:
            ScoringError: Where ONNX Runtime fails on it, for want of memory mostly. A session on the CPU
                keeps nothing from one run to the next: the failure is this batch's own.
        """
        outputs = (*OUTPUTS, *TOP_OUTPUTS) if batch.top_count else OUTPUTS
        inputs = {**_inputs(batch), **(past or {})}
        start = time.perf_counter_ns()
        if len(batch.scored) <= self._slice:
            scores = Scores(*self._run(self._whole, outputs, inputs))
        else:
            nothing = ort.OrtValue.ortvalue_from_numpy(np.zeros(1, np.int32))
            unscored = dict.fromkeys(("scored", "target_ids", "target_places"), nothing)
            (hidden,) = self._run(self._whole, [HIDDEN], {**inputs, **unscored})
            scores = self._score_in_slices(batch, hidden, outputs)
        return scores, time.perf_counter_ns() - start

    def run(
        self, outputs: Sequence[str], batch: Batch, past: Mapping[str, ort.OrtValue]
    ) -> list[ort.OrtValue]:
        """Compute these outputs of the graph alone. Raises ScoringError."""
        return self._values(self._whole, outputs, {**_inputs(batch), **past})

    def _score_in_slices(self, batch: Batch, hidden: NDArray[np.float32], outputs: Sequence[str]) -> Scores:
        parts, target_logprobs = [], np.empty(len(batch.target_ids), np.float32)
        for start in range(0, len(batch.scored), self._slice):
            rows = batch.scored[start : start + self._slice]
            theirs = np.flatnonzero(
                (batch.target_places >= start) & (batch.target_places < start + len(rows))
            )
            # A slice without any still has to have one.
            asked = theirs if len(theirs) else np.zeros(1, np.int64)
            arrays = {
                "hidden_rows": hidden[rows],
                "target_ids": batch.target_ids[asked],
                "target_places": np.clip(batch.target_places[asked] - start, 0, len(rows) - 1),
                "top_count": np.full(1, max(1, batch.top_count), np.int32),
            }
            found, *rest = self._run(self._head, outputs, _as_values(arrays))
            target_logprobs[theirs] = found[: len(theirs)]
            parts.append(rest)
        return Scores(target_logprobs, *(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _run(
        self, session: ort.InferenceSession, outputs: Sequence[str], inputs: Mapping[str, ort.OrtValue]
    ) -> list[NDArray[Any]]:
        return [value.numpy() for value in self._values(session, outputs, inputs)]

    def _values(
        self, session: ort.InferenceSession, outputs: Sequence[str], inputs: Mapping[str, ort.OrtValue]
    ) -> list[ort.OrtValue]:
        try:
            values: list[ort.OrtValue] = session.run_with_ort_values(
                list(outputs), dict(inputs), self._options
            )
        except Exception as error:
            raise ScoringError(f"ONNX Runtime failed on this batch: {one_line(error)}") from error
        return values


def _inputs(batch: Batch) -> dict[str, ort.OrtValue]:
    names = ("token_ids", "positions", "visible_until", "scored", "target_ids", "target_places")
    arrays = {name: getattr(batch, name) for name in names}
    return _as_values({**arrays, "top_count": np.full(1, max(1, batch.top_count), np.int32)})


def _as_values(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, ort.OrtValue]:
    # Memory that is not of one piece is read as if it were.
    return {
        name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()
    }
