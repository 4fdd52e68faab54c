"""One record a document of a task: its fields are the keys of records.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from mmlu_client.prompts.prompt import Unaskable
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.rundir.record import AnsweredRequest, ClientTimes, Record, SharedRequest, Tokens, request_of
from mmlu_client.service.messages import Batch, Timing
from mmlu_client.tasks.document import Grade, TextScore

NO_TOKENS = Tokens()


@dataclass(frozen=True)
class DocumentRecord:
    """A document and what came back for it, as a line of records.jsonl.

    Where a key is one of `Record` too, it means the same.

    Attributes:
        subject: the task's name.
        index: the document's number in the task.
        answer: the number of the right choice; None where the task has no choices.
        predicted: the number of the choice with the largest log-likelihood.
        correct: whether the task's metric `acc` says 1; None where it has none.
        loglikelihoods: of each text that the document asks for, natural logarithms, in lm-eval's order.
        greedy: whether each token of the text is the most likely one; None for a text that is scored as a
            whole.
        scored_tokens: how many tokens of each text were scored.
        metrics: what lm-eval's task made of these: for each of its filters the value of each metric.
        tokens: of all the document's prompts.
        request: the first of the requests that the document's prompts were in.
        other_requests: the further ones.
    """

    subject: str
    index: int
    phase: str
    session: int
    answer: str | None = None
    predicted: str | None = None
    correct: bool | None = None
    loglikelihoods: list[float] | None = None
    greedy: list[bool | None] | None = None
    scored_tokens: list[int] | None = None
    metrics: dict[str, dict[str, Any]] | None = None
    tokens: Tokens = NO_TOKENS
    flops: int | None = None
    shots: int | None = None
    truncated: bool | None = None
    server: str | None = None
    request: SharedRequest | None = None
    batch: Batch | None = None
    server_ns: Timing | None = None
    client_ns: ClientTimes | None = None
    other_requests: list[AnsweredRequest] = field(default_factory=list)
    error: str | None = None

    @property
    def is_scored(self) -> bool:
        """Whether the document has scores."""
        return self.error is None

    @property
    def requests(self) -> list[AnsweredRequest]:
        """The requests that its prompts were in."""
        if self.request is None:
            return []
        first = AnsweredRequest(self.server, self.request, self.batch, self.server_ns, self.client_ns)
        return [first, *self.other_requests]


# A line of records.jsonl.
AnyRecord: TypeAlias = Record | DocumentRecord


def record_of_document(
    answered: AnsweredItem, scores: Sequence[TextScore], grade: Grade | str, phase: str, session: int
) -> DocumentRecord:
    """Make the record of a document.

    Args:
        answered: the document with the answers to its prompts.
        scores: of its texts; empty where there are none.
        grade: what its task made of them, or why it has no metrics.
        phase: VAL or INFER.
        session: which start of the client this is, from 0.
    """
    first, *others = map(request_of, answered.answers)
    prompts = [part.prompt for part in answered.parts]
    record = DocumentRecord(
        subject=answered.item.subject,
        index=answered.item.index,
        phase=phase,
        session=session,
        tokens=Tokens(shared_prefix=0),
        shots=prompts[0].shots,
        truncated=any(prompt.truncated for prompt in prompts),
        **vars(first),
        other_requests=others,
        error=grade if isinstance(grade, str) else None,
    )
    if isinstance(grade, str):
        return record
    found = [part.score for part in answered.parts if part.score is not None]
    computed = [each.computed_tokens for each in found if each.computed_tokens is not None]
    flops = [each.flops for each in found if each.flops is not None]
    return replace(
        record,
        answer=grade.answer,
        predicted=grade.predicted,
        correct=grade.correct,
        loglikelihoods=[score.loglikelihood for score in scores],
        greedy=[score.is_greedy for score in scores],
        scored_tokens=[score.tokens for score in scores],
        metrics=grade.metrics,
        tokens=Tokens(
            logical=sum(score.logical_tokens for score in found),
            computed=sum(computed) if len(computed) == len(found) else None,
            shared_prefix=0,
        ),
        flops=sum(flops) if len(flops) == len(found) else None,
    )


def record_of_unaskable_document(unaskable: Unaskable, phase: str, session: int) -> DocumentRecord:
    """Make the record of a document that no prompt could be made of."""
    item = unaskable.item
    return DocumentRecord(item.subject, item.index, phase, session, error=unaskable.reason)
