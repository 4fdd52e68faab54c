"""Requests that go to an engine together: their batches, what came of those, and each request's result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores, padded_length
from trt_server.scheduling.request import ScoringRequest, ScoringResult, TokenPrompt
from trt_server.scheduling.stages import Stages


class Work:
    """The prompts of some requests, as batches of an engine.

    Attributes:
        batches: One for each prefix that the prompts have; one where none of them has any.
        outcomes: Those of the batches that are done, in the order of the batches.
        assemble_ns: Nanoseconds that making the batches took.
        submitted_ns: When the first batch went to the engine, on the clock of time.perf_counter_ns.
    """

    def __init__(self, requests: Sequence[ScoringRequest], length_multiple: int) -> None:
        start = time.perf_counter_ns()
        self.requests = requests
        self._prompts = [prompt for request in requests for prompt in request.prompts]
        self._length_multiple = length_multiple
        self._rows = _rows_by_prefix(self._prompts)
        self.batches = [
            make_batch([self._prompts[row] for row in rows], length_multiple) for rows in self._rows
        ]
        self.assemble_ns = time.perf_counter_ns() - start
        self.submitted_ns = 0
        self.outcomes: list[Outcome] = []

    def results(self, engine: int) -> Iterator[ScoringResult]:
        """One for each request, in their order, once every batch has its outcome.

        Args:
            engine: The number of the engine that computed them.
        """
        scores, reused, padding = self._scores(), self._reused_tokens(), self._padding_tokens()
        start = 0
        for request in self.requests:
            rows = slice(start, start + len(request.prompts))
            start = rows.stop
            batch = max((batch for batch, _, _ in self._batches_of(rows)), key=lambda each: len(each.lengths))
            batch_prompts, length = batch.token_ids.shape
            yield ScoringResult(
                scores=Scores(
                    scores.candidate_logprobs[rows], scores.top_tokens[rows], scores.top_logprobs[rows]
                ),
                reused_tokens=reused[rows],
                padding_tokens=sum(padding[rows]),
                batch_prompts=batch_prompts,
                padded_length=length,
                stages=self._stages(request, rows),
                engine=engine,
            )

    def _scores(self) -> Scores:
        """Those of all prompts, in the prompts' order."""
        prompts, width = len(self._prompts), max(len(prompt.candidates) for prompt in self._prompts)
        scores = Scores(
            np.zeros((prompts, width), np.float32), np.zeros(prompts, np.int32), np.zeros(prompts, np.float32)
        )
        for rows, outcome in zip(self._rows, self.outcomes, strict=True):
            found = outcome.scores
            scores.candidate_logprobs[rows, : found.candidate_logprobs.shape[1]] = found.candidate_logprobs
            scores.top_tokens[rows] = found.top_tokens
            scores.top_logprobs[rows] = found.top_logprobs
        return scores

    def _reused_tokens(self) -> list[int]:
        """For each prompt. Where a batch's prefix had to be computed, its first prompt is charged with it."""
        reused = [prompt.reusable_tokens for prompt in self._prompts]
        for rows, outcome in zip(self._rows, self.outcomes, strict=True):
            if not outcome.prefix_reused:
                reused[rows[0]] = 0
        return reused

    def _padding_tokens(self) -> list[int]:
        """For each prompt; that of a prefix that was computed is its batch's first prompt's."""
        padding = [0] * len(self._prompts)
        for rows, batch, outcome in zip(self._rows, self.batches, self.outcomes, strict=True):
            for row, length in zip(rows, batch.lengths, strict=True):
                padding[row] = batch.token_ids.shape[1] - int(length)
            if batch.prefix is not None and not outcome.prefix_reused:
                tokens = len(batch.prefix)
                padding[rows[0]] += padded_length(tokens, self._length_multiple) - tokens
        return padding

    def _stages(self, request: ScoringRequest, rows: slice) -> Stages:
        """Of each batch's time the request is charged with the share of its rows."""
        waited_ns = max(0, self.submitted_ns - request.queued_ns - self.assemble_ns)
        # Before the first batch: the next ones wait for that one's work.
        _, first, _ = next(self._batches_of(rows))
        timing = EngineTiming(0, 0, 0)
        for _, outcome, share in self._batches_of(rows):
            timing += outcome.timing.scaled(share)
        return Stages(
            tokenize_ns=request.tokenize_ns,
            queue_ns=waited_ns + first.timing.waited_ns,
            assemble_ns=self.assemble_ns,
            copy_in_ns=timing.copy_in_ns,
            core_ns=timing.core_ns,
            copy_out_ns=timing.copy_out_ns,
        )

    def _batches_of(self, prompts: slice) -> Iterator[tuple[Batch, Outcome, float]]:
        """Those that some of these prompts ran in, each with the share of its rows that are theirs."""
        for rows, batch, outcome in zip(self._rows, self.batches, self.outcomes, strict=True):
            if theirs := sum(prompts.start <= row < prompts.stop for row in rows):
                yield batch, outcome, theirs / len(rows)


def _rows_by_prefix(prompts: Sequence[TokenPrompt]) -> list[list[int]]:
    """The numbers of the prompts that begin with the same prefix, for each prefix."""
    rows: dict[bytes, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt.prefix.tobytes(), []).append(row)
    return list(rows.values())


def make_batch(prompts: Sequence[TokenPrompt], length_multiple: int) -> Batch:
    """Put prompts with one prefix, or none, into the arrays of one batch.

    Args:
        prompts: Each becomes a row, in this order.
        length_multiple: Rows are padded on the right to the next multiple of so many tokens.
    """
    lengths = np.array([len(prompt.rest) for prompt in prompts], dtype=np.int32)
    token_ids = np.zeros((len(prompts), padded_length(int(lengths.max()), length_multiple)), dtype=np.int32)
    candidates = np.zeros((len(prompts), max(len(p.candidates) for p in prompts)), dtype=np.int32)
    for row, prompt in enumerate(prompts):
        token_ids[row, : lengths[row]] = prompt.rest
        candidates[row, : len(prompt.candidates)] = prompt.candidates
    prefix = prompts[0].prefix
    return Batch(token_ids, lengths, candidates, prefix if len(prefix) else None)
