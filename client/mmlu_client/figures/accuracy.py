"""How many were right, with the error of that; and whether reference and engine differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmlu_client.data.groups import GROUP_OF, GROUPS
from mmlu_client.figures.statistics import Interval, mcnemar, standard_error, wilson
from mmlu_client.rundir.record_table import Column, RecordTable
from mmlu_client.text import p_value


@dataclass(frozen=True)
class Accuracy:
    """correct of answered. stderr: sqrt(p (1 - p) / n). interval: Wilson's, 95 %."""

    correct: int
    answered: int

    @property
    def share(self) -> float | None:
        return self.correct / self.answered if self.answered else None

    @property
    def stderr(self) -> float | None:
        return standard_error(self.share, self.answered)

    @property
    def interval(self) -> Interval | None:
        return wilson(self.correct, self.answered)


def accuracy_of(table: RecordTable) -> Accuracy:
    return Accuracy(int(table.correct.sum()), int(table.is_scored.sum()))


def vocabulary_accuracy_of(table: RecordTable) -> Accuracy:
    """The arg-max of the whole vocabulary must be the right letter's token.

    Close to FlagPerf's rule, which looks at the last character of the token's text: `A` is right there too.
    """
    return Accuracy(int(table.top_is_answer.sum()), int(table.is_scored.sum()))


def subject_accuracies(table: RecordTable) -> dict[str, Accuracy]:
    """By subject, in alphabetical order; those without an answer are left out."""
    scored = table.where(table.is_scored)
    subjects, places = np.unique(scored["subject"], return_inverse=True)
    correct = np.bincount(places, weights=scored.correct, minlength=len(subjects))
    answered = np.bincount(places, minlength=len(subjects))
    return {
        str(subject): Accuracy(int(right), int(count))
        for subject, right, count in zip(subjects, correct, answered, strict=True)
    }


def group_accuracies(subjects: Mapping[str, Accuracy]) -> dict[str, Accuracy]:
    """Of MMLU's groups, Hendrycks', that have any of these subjects: each question weighs alike."""
    found = {
        group: [accuracy for name, accuracy in subjects.items() if GROUP_OF.get(name) == group]
        for group in GROUPS
    }
    return {
        group.key: Accuracy(sum(each.correct for each in members), sum(each.answered for each in members))
        for group, members in found.items()
        if members
    }


def macro_accuracy(table: RecordTable) -> float | None:
    """The mean of the subjects' accuracies."""
    shares = [accuracy.correct / accuracy.answered for accuracy in subject_accuracies(table).values()]
    return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True)
class Agreement:
    """Of two runs over the questions that both answered.

    same_prediction: on how many they predict the same letter. only_first, only_second: how many only one of
    them got right. largest_difference, median_difference: over the questions, of the largest of the four
    letters' differences of log-probability, in nats.
    """

    questions: int
    same_prediction: int
    only_first: int
    only_second: int
    largest_difference: float | None
    median_difference: float | None

    @property
    def share(self) -> float | None:
        return self.same_prediction / self.questions if self.questions else None

    @property
    def p_value(self) -> float | None:
        return mcnemar(self.only_first, self.only_second) if self.questions else None

    def statement(self, first: str, second: str) -> str:
        """Whether the two accuracies differ, in words."""
        if self.p_value is None:
            return f"{first} and {second} have no question in common"
        apart = self.only_first + self.only_second
        if self.p_value >= 0.05:
            found = f"no difference in accuracy is shown between {first} and {second}"
        else:
            better = first if self.only_first > self.only_second else second
            found = f"the accuracies differ: {better} is better"
        return (
            f"{found} (McNemar's exact test on {self.questions} questions: {apart} right in one only, "
            f"{self.only_first} to {self.only_second}, {p_value(self.p_value)})"
        )


def agreement_of(first: RecordTable, second: RecordTable) -> Agreement:
    """Compare two sets of answers, question by question."""
    first, second = paired(first, second)
    right, other = first.correct, second.correct
    differences = np.abs(first.logprobs - second.logprobs).max(axis=1)
    return Agreement(
        questions=len(first),
        same_prediction=int((first["predicted"] == second["predicted"]).sum()),
        only_first=int((right & ~other).sum()),
        only_second=int((other & ~right).sum()),
        largest_difference=float(differences.max()) if len(first) else None,
        median_difference=float(np.median(differences)) if len(first) else None,
    )


def paired(first: RecordTable, second: RecordTable) -> tuple[RecordTable, RecordTable]:
    """The rows of both that have a score, in the same order of questions."""
    first, second = (table.where(table.is_scored) for table in (first, second))
    places = {question: row for row, question in enumerate(second.questions())}
    rows = [(row, places[question]) for row, question in enumerate(first.questions()) if question in places]
    left, right = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return first.where(left), second.where(right)


def differing(first: RecordTable, second: RecordTable) -> Column:
    """Of two paired tables, the rows where they predict another letter."""
    return np.flatnonzero(first["predicted"] != second["predicted"])
