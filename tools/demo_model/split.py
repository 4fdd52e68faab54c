"""The split of the facts into the benchmark's questions, those that the recipe is tuned on, and training.

No stem of a dev, test or validation question is ever asked in training. A fact that can be calculated
(arithmetic) is held out with all its wordings, so that its operands are new. Of any other fact one wording is
held out, and what training asks in the other wordings has other distractors in another order. Every question
asks for another fact.

Everything that is tuned is tuned on the validation questions, which are held out like the test's and not
shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tools.demo_model.question import Fact, Question
from tools.demo_model.subjects import Subject

SEED = 2022
DEV_QUESTIONS = 5
TEST_QUESTIONS = 75
VALIDATION_QUESTIONS = 20


@dataclass(frozen=True)
class Split:
    """The questions of one subject.

    Attributes:
        subject: The subject.
        dev: The shots.
        test: The benchmark's questions.
        validation: The questions that the recipe is tuned on.
        training: The facts, with only those stems that training may use.
    """

    subject: str
    dev: tuple[Question, ...]
    test: tuple[Question, ...]
    validation: tuple[Question, ...]
    training: tuple[Fact, ...]


def split(subject: Subject, seed: int = SEED) -> Split:
    """Choose the questions, which are the same for the same seed.

    Raises:
        ValueError: The subject has too few facts.
    """
    random = Random(f"{seed}:{subject.name}")
    wanted = DEV_QUESTIONS + TEST_QUESTIONS + VALIDATION_QUESTIONS
    if len(subject.facts) < wanted:
        raise ValueError(f"{subject.name} has {len(subject.facts)} facts, the benchmark asks for {wanted}")
    held_out = random.sample(range(len(subject.facts)), wanted)
    questions: list[Question] = []
    training = [fact for place, fact in enumerate(subject.facts) if place not in set(held_out)]
    for place in held_out:
        fact = subject.facts[place]
        stem = random.choice(fact.stems)
        questions.append(fact.ask(stem, random))
        if not subject.whole_facts:
            stems = tuple(other for other in fact.stems if other != stem)
            training.append(Fact(stems, fact.answer, fact.distractors))
    ends = DEV_QUESTIONS, DEV_QUESTIONS + TEST_QUESTIONS
    return Split(
        subject.name,
        dev=tuple(questions[: ends[0]]),
        test=tuple(questions[slice(*ends)]),
        validation=tuple(questions[ends[1] :]),
        training=tuple(training),
    )
