"""Prompts that continue a shared prefix, on a CPU: the prefix's keys and values are computed once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trt_common.model.geometry import Geometry

from trt_server.engines.engine import Batch, EngineTiming, Outcome, next_token_batch
from trt_server.engines.prefix_store import PrefixStore
from trt_server.engines.split_graph import Arrays, SplitGraph
from trt_server.model.graph.scoring_graph import kept_outputs, past_inputs

# [1, key_value_heads, tokens, head_size] each, in the order of past_inputs.
KeysAndValues = list[NDArray[Any]]

# A prefix is computed in pieces (chunked prefill): no scores are computed between a query and the tokens
# after its piece, and only one piece's scores are in memory at a time.
_PIECE_TOKENS = 256


class Continuation:
    """A graph that takes keys and values as inputs, and the store of its prefixes."""

    def __init__(
        self,
        graph: SplitGraph,
        geometry: Geometry,
        limit_bytes: int,
        dtype: type[np.generic] = np.float32,
    ) -> None:
        """Begin with an empty store.

        Args:
            graph: Its body takes keys and values, and returns them.
            geometry: The sizes of the model.
            limit_bytes: What all prefixes together may take.
            dtype: Of the arrays that hold keys and values.
        """
        self._graph = graph
        self._past_names = past_inputs(geometry.layers)
        self._kept_names = kept_outputs(geometry.layers)
        heads, size = geometry.key_value_heads, geometry.head_size
        self._bytes_per_token = len(self._past_names) * heads * size * np.dtype(dtype).itemsize
        max_tokens = limit_bytes // self._bytes_per_token
        self.store: PrefixStore[KeysAndValues] = PrefixStore(limit_bytes, max_tokens)
        self._nothing = [np.zeros((1, heads, 0, size), dtype)] * len(self._past_names)

    def warm_up(self, batch: Batch) -> None:
        """Compute a batch's first row as a prefix, and score the batch after it; nothing is stored.

        Raises:
            ScoringError: The library failed on this batch.
        """
        prefix = batch.token_ids[0]
        values, _, _ = self._compute(prefix)
        self._score_after(batch, values, len(prefix))

    def score(self, batch: Batch, prefix: NDArray[np.int32]) -> Outcome:
        """Score a batch, whose rows continue its prefix.

        A prefix that is not in the store is computed first, and core time includes that.

        Args:
            batch: What follows the prefix.
            prefix: int32 [tokens].

        Raises:
            ScoringError: The library failed on this batch.
        """
        past, timing, padding = self.store.get(prefix), EngineTiming(0, 0, 0), 0
        reused = past is not None
        if past is None:
            past, timing, padding = self._compute(prefix)
            self.store.put(prefix, past, len(prefix) * self._bytes_per_token)
        outcome = self._score_after(batch, past, len(prefix))
        timing += outcome.timing
        return replace(outcome, timing=timing, prefix_reused=reused, prefix_padding=padding)

    def _score_after(self, batch: Batch, past: KeysAndValues, length: int) -> Outcome:
        return self._graph.score(batch, self._past(past, length, np.zeros(0, np.int32)))

    def _compute(self, prefix: NDArray[np.int32]) -> tuple[KeysAndValues, EngineTiming, int]:
        """Return a prefix's keys and values, the time that took, and the padding that was run besides."""
        values, timing, padding = self._nothing, EngineTiming(0, 0, 0), 0
        for start in range(0, len(prefix), _PIECE_TOKENS):
            piece = prefix[start : start + _PIECE_TOKENS]
            tokens, no_candidates = np.full(1, len(piece), np.int32), np.zeros((1, 1), np.int32)
            batch = next_token_batch(piece[np.newaxis], tokens, no_candidates, first_position=start)
            past = self._past(values, start, np.arange(len(piece), dtype=np.int32))
            new, core_ns, run = self._graph.keys_and_values(self._kept_names, batch, past)
            before = time.perf_counter_ns()
            pairs = zip(values, new, strict=True)
            values = [np.concatenate(pair, axis=2) for pair in pairs] if start else new
            timing += EngineTiming(time.perf_counter_ns() - before, core_ns, 0)
            padding += run - len(piece)
        return values, timing, padding

    def _past(self, values: KeysAndValues, length: int, kept: NDArray[np.int32]) -> Arrays:
        """Return what the graph takes besides a batch."""
        past: dict[str, NDArray[Any]] = dict(zip(self._past_names, values, strict=True))
        return {**past, "past_length": np.full(1, length, np.int32), "kept": kept}
