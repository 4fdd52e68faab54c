"""Requests that go to an engine together: their batches, what came of those, and each request's result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.request import ScoringRequest
from trt_server.scheduling.result import PromptResult, ScoringResult
from trt_server.scheduling.row import PromptRow, make_batch, scores_of_rows
from trt_server.scheduling.stages import Stages


class Work:
    """The rows of some requests' prompts, as batches of an engine.

    Attributes:
        batches: At least one for each prefix that the prompts have; one where none of them has any, and all
            rows fit.
        outcomes: Those of the batches that are done, in the order of the batches.
        assemble_ns: Nanoseconds that making the batches took.
        submitted_ns: When the first batch went to the engine, on the clock of time.perf_counter_ns.
    """

    def __init__(self, requests: Sequence[ScoringRequest], batching: Batching) -> None:
        start = time.perf_counter_ns()
        self.requests = requests
        self._rows = [row for request in requests for row in request.rows]
        self._numbers = [
            part for numbers in _numbers_by_prefix(self._rows) for part in batching.split(self._rows, numbers)
        ]
        self.batches = [
            make_batch([self._rows[number] for number in numbers], batching.length_multiple)
            for numbers in self._numbers
        ]
        self.assemble_ns = time.perf_counter_ns() - start
        self.submitted_ns = 0
        self.outcomes: list[Outcome] = []

    def results(self, engine: int) -> Iterator[ScoringResult]:
        """One for each request, in their order, once every batch has its outcome.

        Args:
            engine: The number of the engine that computed them.
        """
        start = 0
        for request in self.requests:
            numbers = range(start, start + len(request.rows))
            start = numbers.stop
            batch, outcome, _ = max(self._batches_of(numbers), key=lambda each: len(each[0].lengths))
            yield ScoringResult(
                prompts=list(self._prompt_results(numbers)),
                padding_tokens=sum(self._padding_tokens[number] for number in numbers),
                batch_rows=len(batch.lengths),
                padded_length=int(_run_lengths(batch, outcome).max()),
                stages=self._stages(request, numbers),
                engine=engine,
            )

    def _prompt_results(self, numbers: range) -> Iterator[PromptResult]:
        """Those of one request's prompts, each of which may have several rows."""
        firsts = [number for number in numbers if self._rows[number].is_first]
        for first, end in zip(firsts, [*firsts[1:], numbers.stop], strict=True):
            theirs = range(first, end)
            row, scores = self._rows[first], self._scores[first]
            yield PromptResult(
                candidate_logprobs=row.candidate_logprobs(scores),
                next_token=row.next_token(scores),
                own=row.own_logprobs(scores),
                continuations=[
                    found
                    for number in theirs
                    for found in self._rows[number].continuation_logprobs(self._scores[number])
                ],
                computed=[stretch for number in theirs for stretch in self._computed(number)],
                scored_positions=sum(len(self._rows[number].scored) for number in theirs),
                last_layer=self._last_layer(theirs),
            )

    @cached_property
    def _scores(self) -> dict[int, Scores]:
        """Those of each row."""
        found: dict[int, Scores] = {}
        for numbers, outcome in zip(self._numbers, self.outcomes, strict=True):
            rows = [self._rows[number] for number in numbers]
            found.update(zip(numbers, scores_of_rows(rows, outcome.scores), strict=True))
        return found

    @cached_property
    def _computed_prefixes(self) -> set[int]:
        """The rows that are charged with their prefix: the first of each batch that had to compute it."""
        return {
            numbers[0]
            for numbers, batch, outcome in zip(self._numbers, self.batches, self.outcomes, strict=True)
            if batch.prefix is not None and not outcome.prefix_reused
        }

    def _computed(self, number: int) -> Iterator[tuple[int, int]]:
        """The stretches of text that the engine ran for a row."""
        row = self._rows[number]
        end = len(row.prompt.token_ids)
        yield 0 if number in self._computed_prefixes else row.prompt.reusable_tokens, end
        for continuation in row.continuations:
            yield end, end + len(continuation)

    def _last_layer(self, numbers: range) -> list[int] | None:
        """The positions for which the last layer was computed whole; None: all of them."""
        if not all(outcome.scored_only for _, outcome, _ in self._batches_of(numbers)):
            return None
        rows = [self._rows[number] for number in numbers]
        return [position for row in rows for position in row.positions[row.scored].tolist()]

    @cached_property
    def _padding_tokens(self) -> list[int]:
        """For each row; that of a prefix that was computed is its batch's first row's."""
        padding = [0] * len(self._rows)
        for numbers, batch, outcome in zip(self._numbers, self.batches, self.outcomes, strict=True):
            for number, run, length in zip(
                numbers, _run_lengths(batch, outcome).tolist(), batch.lengths.tolist(), strict=True
            ):
                padding[number] = run - length
            if batch.prefix is not None and numbers[0] in self._computed_prefixes:
                padding[numbers[0]] += outcome.prefix_padding
        return padding

    def _stages(self, request: ScoringRequest, numbers: range) -> Stages:
        """Of each batch's time the request is charged with the share of its rows."""
        waited_ns = max(0, self.submitted_ns - request.queued_ns - self.assemble_ns)
        # Before the first batch: the next ones wait for that one's work.
        _, first, _ = next(self._batches_of(numbers))
        timing = EngineTiming(0, 0, 0)
        for _, outcome, share in self._batches_of(numbers):
            timing += outcome.timing.scaled(share)
        return Stages(
            tokenize_ns=request.tokenize_ns,
            queue_ns=waited_ns + first.timing.waited_ns,
            assemble_ns=self.assemble_ns,
            copy_in_ns=timing.copy_in_ns,
            core_ns=timing.core_ns,
            copy_out_ns=timing.copy_out_ns,
        )

    def _batches_of(self, rows: range) -> Iterator[tuple[Batch, Outcome, float]]:
        """Those that some of these rows are in, each with the share of its rows that are theirs."""
        for numbers, batch, outcome in zip(self._numbers, self.batches, self.outcomes, strict=True):
            if theirs := sum(number in rows for number in numbers):
                yield batch, outcome, theirs / len(numbers)


def _run_lengths(batch: Batch, outcome: Outcome) -> NDArray[np.int32]:
    """Return the tokens that each row was run with, int32 [rows]."""
    if outcome.run_lengths is not None:
        return outcome.run_lengths
    return np.full(len(batch.lengths), batch.token_ids.shape[1], np.int32)


def _numbers_by_prefix(rows: Sequence[PromptRow]) -> list[list[int]]:
    """The numbers of the rows that go on after the same prefix, for each prefix."""
    numbers: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(row.prompt.prefix.tobytes(), []).append(number)
    return list(numbers.values())
