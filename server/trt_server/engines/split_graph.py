"""A model in two parts: its body, and its head, which runs in slices that a stated memory holds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores
from trt_server.engines.head_slices import places_of_a_slice
from trt_server.engines.slices import Slice, slices_of
from trt_server.model.graph.scoring_graph import ASKED_STATES, OUTPUTS, SCORED_STATES, TOP_OUTPUTS

Arrays = Mapping[str, NDArray[Any]]


class GraphPart(Protocol):
    """A graph that a library has loaded."""

    def run(self, outputs: Sequence[str], inputs: Arrays) -> list[NDArray[Any]]:
        """Compute these outputs of the graph.

        Raises:
            ScoringError: The library failed on these inputs, mostly for want of memory. On the CPU nothing is
                kept from one run to the next: the failure concerns this run alone.
        """
        ...


class SplitGraph:
    """Runs batches, and the body alone for the keys and values of a prefix."""

    def __init__(
        self,
        body: GraphPart,
        head: GraphPart,
        vocabulary_size: int,
        length_multiple: int = 1,
        blocks_from: int | None = None,
    ) -> None:
        """Take the two parts.

        Args:
            body: `build_body` of a model.
            head: `build_head` of the same.
            vocabulary_size: Of the model.
            length_multiple: Rows are padded to a multiple of so many tokens, where the library compiles code
                for every length that is new to it.
            blocks_from: Rows of so many tokens and more are taken in two blocks of queries; None: the body
                does not have that choice.
        """
        self._body = body
        self._head = head
        self._slice = places_of_a_slice(vocabulary_size)
        self._length_multiple = length_multiple
        self._blocks_from = blocks_from

    def score(self, batch: Batch, past: Arrays | None = None) -> Outcome:
        """Run a batch.

        Args:
            batch: Its prefix is not looked at.
            past: What a body with a past takes besides.

        Raises:
            ScoringError: The library failed on this batch.
        """
        start = time.perf_counter_ns()
        parts, places = [], []
        run_lengths = np.zeros(len(batch.lengths), np.int32)
        for part in slices_of(batch, self._length_multiple):
            (states,) = self._body.run([ASKED_STATES], self._inputs(part, past or {}))
            parts.append(states[part.states])
            places.append(part.places)
            run_lengths[part.rows] = part.length
        in_order = np.argsort(np.concatenate(places))
        scores = self._score(batch, np.concatenate(parts)[in_order])
        timing = EngineTiming(0, time.perf_counter_ns() - start, 0)
        return Outcome(scores, timing, run_lengths=run_lengths, scored_only=True)

    def keys_and_values(
        self, names: Sequence[str], batch: Batch, past: Arrays
    ) -> tuple[list[NDArray[Any]], int, int]:
        """Run the body alone.

        Args:
            names: The outputs that are wanted.
            batch: One row.
            past: What a body with a past takes besides.

        Returns:
            The outputs, the nanoseconds that computing them took, and the tokens that were run.

        Raises:
            ScoringError: The library failed on this batch.
        """
        start = time.perf_counter_ns()
        (part,) = slices_of(batch, self._length_multiple)
        outputs = self._body.run(names, self._inputs(part, past))
        return outputs, time.perf_counter_ns() - start, part.length

    def _inputs(self, part: Slice, past: Arrays) -> Arrays:
        if self._blocks_from is None:
            return {**part.inputs, **past}
        first = part.length // 2 if part.length >= self._blocks_from else 0
        return {**part.inputs, "first_block": np.full(1, first, np.int32), **past}

    def _score(self, batch: Batch, rows: NDArray[np.float32]) -> Scores:
        """Run the head on [scored, hidden_size], a slice at a time."""
        outputs = (*OUTPUTS, *TOP_OUTPUTS) if batch.top_count else OUTPUTS
        parts, target_logprobs = [], np.empty(len(batch.target_ids), np.float32)
        for start in range(0, len(rows), self._slice):
            part = rows[start : start + self._slice]
            theirs = np.flatnonzero(
                (batch.target_places >= start) & (batch.target_places < start + len(part))
            )
            # A slice without any still has to have one.
            asked = theirs if len(theirs) else np.zeros(1, np.int64)
            found, *rest = self._head.run(
                outputs,
                {
                    SCORED_STATES: part,
                    "target_ids": batch.target_ids[asked],
                    "target_places": np.clip(batch.target_places[asked] - start, 0, len(part) - 1),
                    "top_count": np.full(1, max(1, batch.top_count), np.int32),
                },
            )
            target_logprobs[theirs] = found[: len(theirs)]
            parts.append(rest)
        return Scores(target_logprobs, *(np.concatenate(part) for part in zip(*parts, strict=True)))
