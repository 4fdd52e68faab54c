"""A question in MMLU's form, and the fact that it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A multiple-choice question.

    Attributes:
        stem: The text of the question.
        options: The four options.
        answer: The index of the correct option.
    """

    stem: str
    options: tuple[str, ...]
    answer: int

    @property
    def letter(self) -> str:
        """The letter of the correct option."""
        return LETTERS[self.answer]


@dataclass(frozen=True)
class Fact:
    """A fact that can be asked for in several ways.

    Attributes:
        stems: The ways to ask for it.
        answer: The correct answer.
        distractors: At least three wrong answers.
    """

    stems: tuple[str, ...]
    answer: str
    distractors: tuple[str, ...]

    def ask(self, stem: str, random: Random) -> Question:
        """Return a question with three of the distractors, in random order."""
        options = [self.answer, *random.sample(self.distractors, len(LETTERS) - 1)]
        random.shuffle(options)
        return Question(stem, tuple(options), options.index(self.answer))
