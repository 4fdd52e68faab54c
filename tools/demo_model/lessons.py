"""What the model is trained on: the sequences of each step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tools.demo_model.prompt import header, prompt
from tools.demo_model.question import LETTERS, Fact
from tools.demo_model.split import Split

# Questions in one sequence: a benchmark's prompt has five shots and the question.
QUESTIONS = 6
# Facts on one sequence of cards, about as many tokens.
CARDS = 12


@dataclass(frozen=True)
class Stage:
    """A part of the training: how many steps, of how many sequences each, and of which kinds.

    Shares of the sequences; the rest are questions as the benchmark has them, all of one subject:
    cards: facts without options, "What is the capital of France?" and "Answer: Paris".
    matching: only ask which option says a given word (matching_stem); matching_words: how many words they
    choose from, None: all.
    hinted: the answer's word stands where the question mark would, "What is the capital of France Paris".

    Weights beside the letter's 1: recall, of the answer's word where the stem ends; bring, of that word where
    the letter is asked for.

    favoured: subjects that are drawn once more often for each time they are named.
    """

    name: str
    steps: int
    sequences: int = 24
    cards: float = 0.0
    matching: float = 0.0
    matching_words: int | None = None
    matching_stem: str = "Which option says {}?"
    hinted: float = 0.0
    recall: float = 0.0
    bring: float = 0.0
    favoured: tuple[str, ...] = ()


class Lessons:
    """Draws the sequences; those of a step depend on the seed and the step alone."""

    def __init__(self, stages: Sequence[Stage], splits: Sequence[Split], seed: int) -> None:
        self._stages = [stage for stage in stages for _ in range(stage.steps)]
        self._facts = {each.subject: each.training for each in splits}
        self._subjects = tuple(self._facts)
        self._words = tuple(dict.fromkeys(fact.answer for each in splits for fact in each.training))
        self._seed = seed

    @property
    def steps(self) -> int:
        return len(self._stages)

    def stage(self, step: int) -> Stage:
        return self._stages[step]

    def sequences(self, step: int) -> list[str]:
        """The step's prompts, each with the letter that answers it."""
        stage, random = self._stages[step], Random(f"{self._seed}:{step}")
        return [self._sequence(stage, random) for _ in range(stage.sequences)]

    def sha256(self) -> str:
        """Of all sequences in their order."""
        digest = hashlib.sha256()
        for sequence in self._all_sequences():
            digest.update(sequence.encode() + b"\0")
        return digest.hexdigest()

    def _all_sequences(self) -> Iterator[str]:
        for step in range(self.steps):
            yield from self.sequences(step)

    def _sequence(self, stage: Stage, random: Random) -> str:
        kind = random.random()
        if kind < stage.matching:
            return _exam("matching", self._matching(stage, random), random)
        subject = random.choice(self._subjects + stage.favoured)
        if kind < stage.matching + stage.cards:
            return _cards(subject, random.sample(self._facts[subject], CARDS), random)
        facts = random.sample(self._facts[subject], QUESTIONS)
        if kind < stage.matching + stage.cards + stage.hinted:
            facts = [_hinted(fact) for fact in facts]
        return _exam(subject, facts, random)

    def _matching(self, stage: Stage, random: Random) -> list[Fact]:
        words = self._words[: stage.matching_words]
        chosen = (random.sample(words, len(LETTERS)) for _ in range(QUESTIONS))
        return [Fact((stage.matching_stem.format(word),), word, tuple(others)) for word, *others in chosen]


def _exam(subject: str, facts: Sequence[Fact], random: Random) -> str:
    *shots, last = (fact.ask(random.choice(fact.stems), random) for fact in facts)
    return f"{prompt(subject, shots, last)} {last.letter}"


def _hinted(fact: Fact) -> Fact:
    stems = tuple(f"{stem[:-1]} {fact.answer}" for stem in fact.stems)
    return Fact(stems, fact.answer, fact.distractors)


def _cards(subject: str, facts: Sequence[Fact], random: Random) -> str:
    return header(subject) + "\n\n".join(
        f"{random.choice(fact.stems)}\nAnswer: {fact.answer}" for fact in facts
    )
