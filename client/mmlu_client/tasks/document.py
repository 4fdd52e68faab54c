"""One document of a task, and the texts whose log-likelihoods it asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_client.data.item import Key


@dataclass(frozen=True)
class TextRequest:
    """A text whose log-likelihood is asked for.

    Attributes:
        context: what it follows; None: all of it is scored, in windows of the model's length.
        text: the text.
    """

    context: str | None
    text: str


@dataclass(frozen=True)
class Document:
    """One document of a task.

    Attributes:
        subject: the task's name.
        index: the document's number in the task, from 0.
        requests: the texts that are scored, at least one.
        shots: how many solved documents stand before it.
    """

    subject: str
    index: int
    requests: tuple[TextRequest, ...]
    shots: int

    @property
    def key(self) -> Key:
        """The task and the number, which name the document in records."""
        return self.subject, self.index


@dataclass(frozen=True)
class TextScore:
    """What a model makes of a text.

    Attributes:
        loglikelihood: natural logarithm of the text's probability.
        is_greedy: whether each token is the most likely one; None where that was not asked for.
        tokens: how many tokens of the text were scored.
    """

    loglikelihood: float
    is_greedy: bool | None
    tokens: int


class GradingError(Exception):
    """A task could not compute a document's metrics; the text says why."""


@dataclass(frozen=True)
class Grade:
    """What a task makes of a document's scores.

    Attributes:
        metrics: the value of each metric by its name, for each of the task's filters by its name.
        answer: the number of the right choice; None where the task has no choices, or several are right.
        predicted: the number of the choice with the largest log-likelihood; None where there are none.
    """

    metrics: dict[str, dict[str, object]]
    answer: str | None
    predicted: str | None

    @property
    def correct(self) -> bool | None:
        """Whether `acc` says that the document is right; None where the task has no such metric."""
        value = next((found["acc"] for found in self.metrics.values() if "acc" in found), None)
        return bool(value) if isinstance(value, (int, float)) and value in (0, 1) else None


@dataclass(frozen=True)
class DocumentMetrics:
    """What a task made of one document.

    Attributes:
        task: the task's name.
        index: the document's number.
        metrics: the values by metric, for each filter by its name.
        scores: of the document's texts.
    """

    task: str
    index: int
    metrics: dict[str, dict[str, Any]]
    scores: tuple[TextScore, ...]


def documents_sha256(documents: Sequence[Document]) -> str:
    """Return a hash of what is asked: of the texts of all documents, with their tasks and numbers."""
    digest = hashlib.sha256()
    for document in documents:
        texts = [(each.context, each.text) for each in document.requests]
        row = json.dumps([document.subject, document.index, texts], ensure_ascii=False)
        digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
