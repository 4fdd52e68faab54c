"""The questions of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mmlu_client.data.item import Key

Letter = Literal["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]
# Of the options in their order; a question has as many of them as it has options.
LETTERS: tuple[Letter, ...] = ("A", "B", "C", "D", "E", "F", "G", "H", "I", "J")
FEWEST_OPTIONS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a benchmark, with its text and options byte for byte as in the file.

    Attributes:
        subject: the subject's name.
        index: the row in the subject's file, from 0.
        text: the question.
        options: the answers to choose from, two to ten.
        answer: the letter of the right one.
    """

    subject: str
    index: int
    text: str
    options: tuple[str, ...]
    answer: Letter

    @property
    def key(self) -> Key:
        """The subject and the row, which name the question in records."""
        return self.subject, self.index

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters of the options."""
        return LETTERS[: len(self.options)]


def letter_in(text: str, letters: Iterable[Letter]) -> Letter | None:
    """Find the letter that a cell names, in either case and with blanks around it; None where it is none."""
    return next((letter for letter in letters if text.strip().upper() == letter), None)
