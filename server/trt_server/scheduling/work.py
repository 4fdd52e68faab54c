"""Requests that go to an engine together: their batches, what came of those, and each request's answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from trt_server.engines.engine import EngineTiming, Outcome, Scores, padded_length
from trt_server.scheduling.request import Answer, BatchShape, Part, ScoringRequest, Stages, assemble


class Work:
    """parts: the batches of all prompts, one request's after the other; one but where prefixes differ.

    outcomes: of the parts that are done, in their order. submitted_ns: when the first went to the engine.
    """

    def __init__(self, requests: Sequence[ScoringRequest], length_multiple: int) -> None:
        start = time.perf_counter_ns()
        self.requests = requests
        self._prompts = [prompt for request in requests for prompt in request.prompts]
        self._length_multiple = length_multiple
        self.parts = assemble(self._prompts, length_multiple)
        self.assemble_ns = time.perf_counter_ns() - start
        self.submitted_ns = 0
        self.outcomes: list[Outcome] = []

    def answers(self, engine: int) -> Iterator[Answer]:
        """One a request, in their order, once every part has its outcome; engine: which computed them."""
        scores, reused, padding = self._scores(), self._reused_tokens(), self._padding_tokens()
        start = 0
        for request in self.requests:
            rows = slice(start, start + len(request.prompts))
            start = rows.stop
            waited_ns = max(0, self.submitted_ns - request.queued_ns - self.assemble_ns)
            yield Answer(
                scores=Scores(
                    scores.candidate_logprobs[rows], scores.top_tokens[rows], scores.top_logprobs[rows]
                ),
                reused_tokens=reused[rows],
                padding_tokens=sum(padding[rows]),
                stages=Stages(waited_ns + self._waited_on_device(rows), self.assemble_ns, self._timing(rows)),
                batch=self._largest_batch(rows),
                engine=engine,
            )

    def _scores(self) -> Scores:
        """Those of all prompts, in the prompts' order."""
        prompts, width = len(self._prompts), max(len(prompt.candidates) for prompt in self._prompts)
        scores = Scores(
            np.zeros((prompts, width), np.float32), np.zeros(prompts, np.int32), np.zeros(prompts, np.float32)
        )
        for part, outcome in zip(self.parts, self.outcomes, strict=True):
            rows, found = list(part.rows), outcome.scores
            scores.candidate_logprobs[rows, : found.candidate_logprobs.shape[1]] = found.candidate_logprobs
            scores.top_tokens[rows] = found.top_tokens
            scores.top_logprobs[rows] = found.top_logprobs
        return scores

    def _reused_tokens(self) -> list[int]:
        """For each prompt. Where a part's prefix had to be computed, its first prompt is charged with it."""
        reused = [prompt.reusable_tokens for prompt in self._prompts]
        for part, outcome in zip(self.parts, self.outcomes, strict=True):
            if not outcome.prefix_reused:
                reused[part.rows[0]] = 0
        return reused

    def _padding_tokens(self) -> list[int]:
        """For each prompt; that of a prefix that was computed is its part's first prompt's."""
        padding = [0] * len(self._prompts)
        for part, outcome in zip(self.parts, self.outcomes, strict=True):
            for row, length in zip(part.rows, part.batch.lengths, strict=True):
                padding[row] = part.batch.token_ids.shape[1] - int(length)
            if part.batch.prefix is not None and not outcome.prefix_reused:
                tokens = len(part.batch.prefix)
                padding[part.rows[0]] += padded_length(tokens, self._length_multiple) - tokens
        return padding

    def _parts_of(self, rows: slice) -> Iterator[tuple[Part, Outcome, int]]:
        """Those that some of the prompts ran in, with how many of them."""
        for part, outcome in zip(self.parts, self.outcomes, strict=True):
            if theirs := sum(rows.start <= row < rows.stop for row in part.rows):
                yield part, outcome, theirs

    def _waited_on_device(self, rows: slice) -> int:
        """Nanoseconds, before the first of their parts: the next ones wait for that one's work."""
        _, outcome, _ = next(self._parts_of(rows))
        return outcome.timing.waited_ns

    def _timing(self, rows: slice) -> EngineTiming:
        """What some of the prompts are charged with: of each part's time the share of its rows."""
        timing = EngineTiming(0, 0, 0)
        for part, outcome, theirs in self._parts_of(rows):
            timing += outcome.timing.scaled(theirs / len(part.rows))
        return timing

    def _largest_batch(self, rows: slice) -> BatchShape:
        """Of those that some of the prompts ran in."""
        shapes = (BatchShape(*part.batch.token_ids.shape) for part, _, _ in self._parts_of(rows))
        return max(shapes, key=lambda shape: shape.prompts)
