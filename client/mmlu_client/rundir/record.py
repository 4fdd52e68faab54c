"""One record a question: its fields are the keys of records.jsonl and the columns of RecordTable."""

from __future__ import annotations

from dataclasses import dataclass

from mmlu_client.data.question import LETTERS, Letter
from mmlu_client.load.answer import Answer
from mmlu_client.prompts.prompt import Unaskable
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.service.messages import Batch, Reply, Score, Timing

# Which engine a question was asked of: the reference, or the compiled one.
VAL, INFER = "val", "infer"


@dataclass(frozen=True)
class Tokens:
    """The numbers of tokens of a prompt.

    Attributes:
        logical: all tokens of the prompt.
        computed: those that the engine ran.
        shared_prefix: those of the subject's header and shots.
    """

    logical: int | None = None
    computed: int | None = None
    shared_prefix: int | None = None


@dataclass(frozen=True)
class SharedRequest:
    """The request that a question was sent in.

    Attributes:
        id: its name, another one for each request of a run.
        prompts: how many prompts it had.
    """

    id: str
    prompts: int


@dataclass(frozen=True)
class ClientTimes:
    """The times of a request, in nanoseconds of the client's monotonic clock.

    Attributes:
        tokenize: how long its prompts took to build, ahead of time.
        due: when it was to be sent.
        ready: when the client was free to send it: later than due where every server had as much as it takes.
        sent: when it was sent.
        received: when its answer came.
    """

    tokenize: int
    due: int
    ready: int
    sent: int
    received: int


@dataclass(frozen=True)
class AnsweredRequest:
    """What records hold of a request: who answered it, with what, and when."""

    server: str | None
    request: SharedRequest | None
    batch: Batch | None
    server_ns: Timing | None
    client_ns: ClientTimes | None


@dataclass(frozen=True)
class Record:
    """A question and its answer, as a line of records.jsonl: the fields are its keys, in their order.

    This is the one declaration of what a record holds: lines are written from it, and RecordTable has its
    columns from it. Where `error` is set, the question has no scores. None is what is not known: everything
    about the prompt where none could be made, everything about the request where none was sent.

    Attributes:
        phase: VAL or INFER.
        session: which start of the client, from 0; a resumed run has several.
        predicted: the letter with the largest of its options' log-probabilities; of equal ones the first, as
            in numpy, and so in Hendrycks' program and lm-evaluation-harness.
        logprobs: natural logarithms, of the letters of the question's options; without those that the server
            did not tell.
        below: for each of these, the least log-probability that the server told: theirs is not above it.
        candidates: the token ids of these letters.
        top_token: the arg-max of the whole vocabulary.
        flops: what the prompt took, as the server or, by --model-config, the client counted it; where
            tokens.computed is not known, what it takes when nothing is reused.
        shots: how many shots the prompt kept whole.
        truncated: whether the prompt lost a part to be short enough.
    """

    subject: str
    index: int
    phase: str
    session: int
    answer: Letter
    predicted: Letter | None = None
    correct: bool | None = None
    logprobs: dict[Letter, float] | None = None
    below: dict[Letter, float] | None = None
    candidates: dict[Letter, int] | None = None
    top_token: int | None = None
    top_logprob: float | None = None
    tokens: Tokens = Tokens()
    flops: int | None = None
    shots: int | None = None
    truncated: bool | None = None
    server: str | None = None
    request: SharedRequest | None = None
    batch: Batch | None = None
    server_ns: Timing | None = None
    client_ns: ClientTimes | None = None
    error: str | None = None

    @property
    def is_scored(self) -> bool:
        """Whether the question has scores."""
        return self.logprobs is not None

    @property
    def requests(self) -> list[AnsweredRequest]:
        """The request that it was sent in, where it was."""
        if self.request is None:
            return []
        return [AnsweredRequest(self.server, self.request, self.batch, self.server_ns, self.client_ns)]


def record_of(answered: AnsweredItem, right: Letter, phase: str, session: int) -> Record:
    """Make the record of a question.

    Args:
        answered: the question, which has one prompt, and its answer.
        right: the letter of the right option.
        phase: VAL or INFER.
        session: which start of the client this is, from 0.
    """
    (part,) = answered.parts
    prompt, score, answer = part.prompt, part.score, part.answer
    predicted = _predicted(score) if score else None
    return Record(
        subject=answered.item.subject,
        index=answered.item.index,
        phase=phase,
        session=session,
        answer=right,
        predicted=predicted,
        correct=predicted == right if score else None,
        logprobs=_told(score) if score else None,
        below=_below(score) if score else None,
        candidates=dict(zip(LETTERS, prompt.candidate_ids, strict=False)),
        top_token=score.top_token if score else None,
        top_logprob=score.top_logprob if score else None,
        tokens=Tokens(
            logical=score.logical_tokens if score else None,
            computed=score.computed_tokens if score else None,
            shared_prefix=prompt.shared_prefix_tokens,
        ),
        flops=score.flops if score else None,
        shots=prompt.shots,
        truncated=prompt.truncated,
        **vars(request_of(answer)),
        error=part.error,
    )


def record_of_unaskable(unaskable: Unaskable, right: Letter, phase: str, session: int) -> Record:
    """Make the record of a question that no prompt could be made of."""
    item = unaskable.item
    return Record(item.subject, item.index, phase, session, right, error=unaskable.reason)


def request_of(answer: Answer) -> AnsweredRequest:
    """Return what records hold of a request."""
    request = answer.request
    reply = answer.outcome if isinstance(answer.outcome, Reply) else None
    return AnsweredRequest(
        server=answer.server,
        request=SharedRequest(request.id, len(request.prompts)),
        batch=reply.batch if reply else None,
        server_ns=reply.timing if reply else None,
        client_ns=ClientTimes(
            tokenize=request.tokenize_ns,
            due=answer.due_ns,
            ready=answer.ready_ns,
            sent=answer.sent_ns,
            received=answer.received_ns,
        ),
    )


def _told(score: Score) -> dict[Letter, float]:
    pairs = zip(LETTERS, score.logprobs, strict=False)
    return {letter: logprob for letter, logprob in pairs if logprob is not None}


def _below(score: Score) -> dict[Letter, float] | None:
    """Return the bound of each letter that the server did not tell; None where it told all."""
    if score.least_told is None:
        return None
    pairs = zip(LETTERS, score.logprobs, strict=False)
    return {letter: score.least_told for letter, logprob in pairs if logprob is None} or None


def _predicted(score: Score) -> Letter:
    """Return the likeliest letter, which is one of those that the server told: the others are below them."""
    told = _told(score)
    return max(told, key=told.__getitem__)
