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
    """index: the row in its subject's file, from 0. Text and options: the file's, byte for byte."""

    subject: str
    index: int
    text: str
    options: tuple[str, str, str, str]
    answer: Letter

    @property
    def key(self) -> Key:
        return self.subject, self.index


def subject_counts(questions: Iterable[Question]) -> dict[str, int]:
    """How many there are of each subject, in alphabetical order."""
    return dict(sorted(Counter(question.subject for question in questions).items()))
