"""A question in MMLU's form, and the fact it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """stem: what is asked. options: four. answer: index of the right one."""

    stem: str
    options: tuple[str, ...]
    answer: int

    @property
    def letter(self) -> str:
        return LETTERS[self.answer]


@dataclass(frozen=True)
class Fact:
    """Something true that can be asked for in several ways.

    stems: the ways to ask. distractors: wrong answers, three at least.
    """

    stems: tuple[str, ...]
    answer: str
    distractors: tuple[str, ...]

    def ask(self, stem: str, random: Random) -> Question:
        """Ask for it with three of the distractors, in any order."""
        options = [self.answer, *random.sample(self.distractors, len(LETTERS) - 1)]
        random.shuffle(options)
        return Question(stem, tuple(options), options.index(self.answer))
