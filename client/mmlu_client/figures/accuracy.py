"""How many were right, with the error of that; and whether reference and engine differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmlu_client.data.groups import GROUP_OF, GROUPS
from mmlu_client.figures.statistics import Interval, mcnemar, standard_error, wilson
from mmlu_client.rundir.record_table import Column, RecordTable
from mmlu_client.text import p_value


@dataclass(frozen=True)
class Accuracy:
    """How many of the answered questions are right.

    Attributes:
        correct: those that are right.
        answered: those with scores.
    """

    correct: int
    answered: int

    @property
    def share(self) -> float | None:
        """Right / answered questions; None where there is no answer."""
        return self.correct / self.answered if self.answered else None

    @property
    def stderr(self) -> float | None:
        """The standard error √(p(1−p)/n)."""
        return standard_error(self.share, self.answered)

    @property
    def interval(self) -> Interval | None:
        """Wilson's 95 % interval."""
        return wilson(self.correct, self.answered)


def accuracy_of(table: RecordTable) -> Accuracy:
    """Count the right letters, by the largest of a question's log-probabilities, or the right documents."""
    return Accuracy(int(table.correct.sum()), int(table.is_graded.sum()))


def vocabulary_accuracy_of(table: RecordTable) -> Accuracy:
    """Count the questions on which the arg-max of the whole vocabulary is the right letter's token.

    Close to FlagPerf's rule, which looks at the last character of the token's text: `A` is right there too.
    """
    return Accuracy(int(table.top_is_answer.sum()), int(table.is_scored.sum()))


def subject_accuracies(table: RecordTable) -> dict[str, Accuracy]:
    """Count by subject.

    Returns:
        The accuracy of each subject that has an answer, in alphabetical order.
    """
    scored = table.where(table.is_graded)
    subjects, places = np.unique(scored["subject"], return_inverse=True)
    correct = np.bincount(places, weights=scored.correct, minlength=len(subjects))
    answered = np.bincount(places, minlength=len(subjects))
    return {
        str(subject): Accuracy(int(right), int(count))
        for subject, right, count in zip(subjects, correct, answered, strict=True)
    }


def group_accuracies(subjects: Mapping[str, Accuracy]) -> dict[str, Accuracy]:
    """Add up the subjects of each of MMLU's groups, Hendrycks' ones: each question weighs alike.

    Args:
        subjects: the accuracy of each of MMLU's subjects, by its name.

    Returns:
        The accuracy of each group that has any of these subjects, by its key.
    """
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
    """Compute the mean of the subjects' accuracies."""
    shares = [accuracy.correct / accuracy.answered for accuracy in subject_accuracies(table).values()]
    return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree on the questions that both answered.

    Attributes:
        questions: how many both answered.
        same_prediction: on how many they predict the same letter.
        only_first: how many only the first got right.
        only_second: how many only the second got right.
        largest_difference: over the questions, of the largest of their letters' differences of
            log-probability, in nats.
        median_difference: the median of the same.
    """

    questions: int
    same_prediction: int
    only_first: int
    only_second: int
    largest_difference: float | None
    median_difference: float | None

    @property
    def share(self) -> float | None:
        """The share of the questions on which they predict the same letter."""
        return self.same_prediction / self.questions if self.questions else None

    @property
    def p_value(self) -> float | None:
        """Two-sided p of McNemar's exact test."""
        return mcnemar(self.only_first, self.only_second) if self.questions else None

    def statement(self, first: str, second: str) -> str:
        """Say in words whether the two accuracies differ."""
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
    differences = logprob_differences(first, second)
    differences = differences[~np.isnan(differences)]
    return Agreement(
        questions=len(first),
        same_prediction=int((first["predicted"] == second["predicted"]).sum()),
        only_first=int((right & ~other).sum()),
        only_second=int((other & ~right).sum()),
        largest_difference=float(differences.max()) if len(differences) else None,
        median_difference=float(np.median(differences)) if len(differences) else None,
    )


def logprob_differences(first: RecordTable, second: RecordTable) -> NDArray[np.float64]:
    """Compute for each row the largest difference of a letter's, or a text's, log-probability, in nats.

    NaN where there is none of which both were told.

    Args:
        first: some rows.
        second: those of the same questions or documents.
    """
    letters: NDArray[np.float64] = np.fmax.reduce(np.abs(first.logprobs - second.logprobs), axis=1)
    for row in np.flatnonzero(np.isnan(letters)):
        mine, theirs = (table["loglikelihoods"][row] for table in (first, second))
        if mine is None or theirs is None:  # no letter of which both servers told
            continue
        letters[row] = np.abs(mine - theirs).max() if len(mine) == len(theirs) else np.inf
    return letters


def paired(first: RecordTable, second: RecordTable) -> tuple[RecordTable, RecordTable]:
    """Choose the rows of both that have scores, in the same order of questions."""
    first, second = (table.where(table.is_scored) for table in (first, second))
    places = {question: row for row, question in enumerate(second.questions())}
    rows = [(row, places[question]) for row, question in enumerate(first.questions()) if question in places]
    left, right = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return first.where(left), second.where(right)


def differing(first: RecordTable, second: RecordTable) -> Column:
    """Find the rows of two paired tables where they predict different letters."""
    return np.flatnonzero(first["predicted"] != second["predicted"])
