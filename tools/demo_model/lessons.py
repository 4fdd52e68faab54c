"""The sequences that the model is trained on in each step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from tools.demo_model.prompt import header, prompt
from tools.demo_model.question import LETTERS, Fact
from tools.demo_model.split import Split

# The questions of a sequence: as in the benchmark's prompts, five shots and the question.
QUESTIONS = 6
# The facts of a sequence of cards, which then has about as many tokens.
CARDS = 12


@dataclass(frozen=True)
class Stage:
    """A part of the training: its number of steps, and the kinds of its sequences.

    Kinds are given as shares of the sequences. The rest are questions as in the benchmark, all of one
    subject.

    Attributes:
        name: The name of the stage.
        steps: The number of steps.
        sequences: The number of sequences in a step.
        cards: The share of sequences of facts without options: "What is the capital of France?" and "Answer:
            Paris".
        matching: The share of sequences that only ask which option is a given word (matching_stem).
        matching_words: How many words these choose from; None: all.
        matching_stem: Their stem.
        hinted: The share of sequences with the answer's word in place of the question mark: "What is the
            capital of France Paris".
        recall: The weight of the loss of the answer's word at the end of the stem; the letter's is 1.
        bring: The weight of the loss of that word at "Answer:".
        favoured: Subjects that are drawn once more often for each time they are named.
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
    """Draws the sequences. Those of a step depend only on the seed and the step."""

    def __init__(self, stages: Sequence[Stage], splits: Sequence[Split], seed: int) -> None:
        self._stages = [stage for stage in stages for _ in range(stage.steps)]
        self._facts = {each.subject: each.training for each in splits}
        self._subjects = tuple(self._facts)
        self._words = tuple(dict.fromkeys(fact.answer for each in splits for fact in each.training))
        self._seed = seed

    @property
    def steps(self) -> int:
        """The number of all steps."""
        return len(self._stages)

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return self._stages[step]

    def sequences(self, step: int) -> list[str]:
        """Return the prompts of a step, each with the letter that answers it."""
        stage, random = self._stages[step], Random(f"{self._seed}:{step}")
        return [self._sequence(stage, random) for _ in range(stage.sequences)]

    def sha256(self) -> str:
        """Return the SHA-256 of all sequences in order."""
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
