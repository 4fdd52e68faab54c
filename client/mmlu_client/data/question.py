"""The questions of a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Letter = Literal["A", "B", "C", "D"]
LETTERS: tuple[Letter, ...] = ("A", "B", "C", "D")

# What names a question: its subject, and its row in it.
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Question:
    """This is one question of a benchmark, with its text and options byte for byte as in the file.

    Attributes:
        subject: the subject's name.
        index: the row in the subject's file, from 0.
        text: the question.
        options: the four answers to choose from.
        answer: the letter of the right one.
    """

    subject: str
    index: int
    text: str
    options: tuple[str, str, str, str]
    answer: Letter

    @property
    def key(self) -> Key:
        """The subject and the row, which name the question in records."""
        return self.subject, self.index


def subject_counts(questions: Iterable[Question]) -> dict[str, int]:
    """Count the questions of each subject; subjects are in alphabetical order."""
    return dict(sorted(Counter(question.subject for question in questions).items()))
