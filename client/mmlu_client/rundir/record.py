"""One record a question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_client.data.question import LETTERS, Letter, Question
from mmlu_client.load.load import Answer
from mmlu_client.prompts.builder import Prompt, Unaskable
from mmlu_client.service.messages import Batch, Refusal, Reply, Score, Timing

# Which engine a question was asked of: the reference, or the compiled one.
VAL, INFER = "val", "infer"
# What the error of a question begins with whose scores are no numbers.
NOT_FINITE = "the server's log-probabilities are not finite"


@dataclass(frozen=True)
class Exchange:
    """The request that a question went in, shared by the `prompts` questions of it.

    Times are the client's monotonic clock: load.Answer says what each means. tokenize_ns: what building its
    prompts took, ahead of time.
    """

    id: str
    prompts: int
    server: str
    tokenize_ns: int
    due_ns: int
    ready_ns: int
    sent_ns: int
    received_ns: int
    timing: Timing | None
    batch: Batch | None


@dataclass(frozen=True)
class AskedPrompt:
    """What is kept of a prompt: everything but its token ids, which are most of the memory."""

    candidate_ids: tuple[int, ...]
    shared_prefix_tokens: int
    shots: int
    truncated: bool


@dataclass(frozen=True)
class Record:
    """A question and its answer; where `error` is set, there is none and `score` is None.

    phase: VAL or INFER. session: which start of the client, from 0: a resumed run has several. asked: None
    where no prompt could be made.
    """

    phase: str
    session: int

    question: Question
    asked: AskedPrompt | None
    exchange: Exchange | None
    score: Score | None
    error: str | None

    @property
    def predicted(self) -> Letter | None:
        """Arg-max over the four candidates: of equal ones the first letter, as numpy's, and so Hendrycks' and
        lm-evaluation-harness', has it."""
        if self.score is None:
            return None
        return LETTERS[max(range(len(LETTERS)), key=self.score.logprobs.__getitem__)]

    @property
    def correct(self) -> bool:
        return self.predicted == self.question.answer

    @property
    def top_is_answer(self) -> bool:
        """Whether the arg-max of the whole vocabulary is the right letter's token."""
        if self.score is None:
            return False
        return self.score.top_token == self.score.candidate_ids[LETTERS.index(self.question.answer)]

    def as_json(self) -> dict[str, Any]:
        question, asked, score = self.question, self.asked, self.score
        return {
            "subject": question.subject,
            "index": question.index,
            "phase": self.phase,
            "session": self.session,
            "answer": question.answer,
            "predicted": self.predicted,
            "correct": self.correct if score else None,
            "logprobs": dict(zip(LETTERS, score.logprobs, strict=True)) if score else None,
            "candidates": dict(zip(LETTERS, asked.candidate_ids, strict=True)) if asked else None,
            "top_token": score.top_token if score else None,
            "top_logprob": score.top_logprob if score else None,
            "tokens": {
                "logical": score.logical_tokens if score else None,
                "computed": score.computed_tokens if score else None,
                "shared_prefix": asked.shared_prefix_tokens if asked else None,
            },
            "flops": score.flops if score else None,
            "shots": asked.shots if asked else None,
            "truncated": asked.truncated if asked else None,
            **self._exchange_as_json(),
            "error": self.error,
        }

    def _exchange_as_json(self) -> dict[str, Any]:
        exchange = self.exchange
        if exchange is None:
            return dict.fromkeys(("server", "request", "batch", "server_ns", "client_ns"))
        return {
            "server": exchange.server,
            "request": {"id": exchange.id, "prompts": exchange.prompts},
            "batch": vars(exchange.batch) if exchange.batch else None,
            "server_ns": vars(exchange.timing) if exchange.timing else None,
            "client_ns": {
                "tokenize": exchange.tokenize_ns,
                "due": exchange.due_ns,
                "ready": exchange.ready_ns,
                "sent": exchange.sent_ns,
                "received": exchange.received_ns,
            },
        }


def records_of(answer: Answer, phase: str, session: int) -> list[Record]:
    """One record for each prompt of the request."""
    request, outcome = answer.request, answer.outcome
    reply = outcome if isinstance(outcome, Reply) else None
    exchange = Exchange(
        id=request.id,
        prompts=len(request.prompts),
        server=answer.server,
        tokenize_ns=request.tokenize_ns,
        due_ns=answer.due_ns,
        ready_ns=answer.ready_ns,
        sent_ns=answer.sent_ns,
        received_ns=answer.received_ns,
        timing=reply.timing if reply else None,
        batch=reply.batch if reply else None,
    )
    error = _error(request.prompts, outcome)
    if error is not None or reply is None:
        return [
            Record(phase, session, prompt.question, _asked(prompt), exchange, None, error)
            for prompt in request.prompts
        ]
    return [
        Record(phase, session, prompt.question, _asked(prompt), exchange, score, None)
        for prompt, score in zip(request.prompts, reply.scores, strict=True)
    ]


def _asked(prompt: Prompt) -> AskedPrompt:
    return AskedPrompt(prompt.candidate_ids, prompt.shared_prefix_tokens, prompt.shots, prompt.truncated)


def record_of_unaskable(unaskable: Unaskable, phase: str, session: int) -> Record:
    return Record(phase, session, unaskable.question, None, None, None, unaskable.reason)


def _error(prompts: Sequence[Prompt], outcome: Reply | Refusal) -> str | None:
    if isinstance(outcome, Refusal):
        return f"{outcome.code}: {outcome.message}"
    if len(outcome.scores) != len(prompts):
        return f"the server answered {len(outcome.scores)} scores for {len(prompts)} prompts"
    for prompt, score in zip(prompts, outcome.scores, strict=True):
        if score.candidate_ids != prompt.candidate_ids or len(score.logprobs) != len(prompt.candidate_ids):
            return f"the server scored candidates {score.candidate_ids}, {prompt.candidate_ids} were asked"
        if not math.isfinite(sum(score.logprobs) + score.top_logprob):
            return f"{NOT_FINITE}: {score.logprobs}, of the arg-max {score.top_logprob}"
    return None
