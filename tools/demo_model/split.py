"""What the benchmark keeps for itself and what is left to train on.

No stem of a dev or test question is ever asked in training. Of a fact that can be worked out (arithmetic, a
story) no wording is: its operands are new. Of a closed fact one wording is kept back, and what training asks
in the other wordings has other distractors and another order. Every test question asks another fact.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.demo_model.question import Fact, Question
from tools.demo_model.subjects import Subject

SEED = 2021
DEV_QUESTIONS = 5
TEST_QUESTIONS = 75


@dataclass(frozen=True)
class Split:
    """One subject's questions. training: facts with only the stems that training may use."""

    subject: str
    dev: tuple[Question, ...]
    test: tuple[Question, ...]
    training: tuple[Fact, ...]


def split(subject: Subject, seed: int = SEED) -> Split:
    """Choose the benchmark's questions; the same for the same seed. Raises ValueError with too few facts."""
    random = Random(f"{seed}:{subject.name}")
    wanted = DEV_QUESTIONS + TEST_QUESTIONS
    if len(subject.facts) < wanted:
        raise ValueError(f"{subject.name} has {len(subject.facts)} facts, the benchmark asks for {wanted}")
    held_out = set(random.sample(range(len(subject.facts)), wanted))
    questions: list[Question] = []
    training: list[Fact] = []
    for place, fact in enumerate(subject.facts):
        if place not in held_out:
            training.append(fact)
            continue
        stem = random.choice(fact.stems)
        questions.append(fact.ask(stem, random))
        if not subject.whole_facts:
            stems = tuple(other for other in fact.stems if other != stem)
            training.append(Fact(stems, fact.answer, fact.distractors))
    random.shuffle(questions)
    return Split(
        subject.name, tuple(questions[:DEV_QUESTIONS]), tuple(questions[DEV_QUESTIONS:]), tuple(training)
    )
