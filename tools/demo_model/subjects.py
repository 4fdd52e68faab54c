"""The subjects of the demo benchmark: facts, and the ways to ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise, product

from tools.demo_model import facts
from tools.demo_model.facts import swapped
from tools.demo_model.question import Fact


@dataclass(frozen=True)
class Subject:
    """A subject.

    Attributes:
        name: The name in the names of files.
        facts: All its facts.
        whole_facts: Whether the benchmark holds out facts with all their wordings, because they can be
            calculated (arithmetic); otherwise it holds out one wording, because nobody can know a fact that
            they were never told.
    """

    name: str
    facts: tuple[Fact, ...]
    whole_facts: bool = False


def relation(pairs: Iterable[tuple[str, str]], *wordings: str, pool: Iterable[str] = ()) -> tuple[Fact, ...]:
    """Return facts "key → value" with other values as distractors.

    Args:
        pairs: Keys and values.
        wordings: The ways to ask, with "{}" for the key.
        pool: Further distractors, where there are too few values.
    """
    known = tuple(pairs)
    values = tuple(dict.fromkeys([*(value for _, value in known), *pool]))
    return tuple(
        Fact(
            tuple(wording.format(key) for wording in wordings),
            value,
            tuple(other for other in values if other != value),
        )
        for key, value in known
    )


def world_capitals() -> Subject:
    """Return questions about countries and their capitals."""
    return Subject(
        "world_capitals",
        relation(
            facts.CAPITALS,
            "What is the capital of {}?",
            "Which city is the capital of {}?",
            "The government of {} sits in which city?",
        )
        + relation(
            swapped(facts.CAPITALS),
            "Which country has {} as its capital?",
            "The city of {} is the capital of which country?",
            "Of which country is {} the capital?",
        ),
    )


def chemical_elements() -> Subject:
    """Return questions about elements, their symbols and their numbers."""
    numbered = tuple((name, str(number)) for number, (name, _) in enumerate(facts.ELEMENTS, 1))
    # "A" to "D" stay letters of options.
    symbols = tuple(pair for pair in facts.ELEMENTS if pair[1] not in "ABCD")
    return Subject(
        "chemical_elements",
        relation(
            symbols,
            "What is the chemical symbol of {}?",
            "Which symbol stands for {}?",
            "How is the element {} written in a formula?",
        )
        + relation(
            swapped(symbols),
            "Which element has the chemical symbol {}?",
            "The symbol {} stands for which element?",
            "In a formula, which element is written {}?",
        )
        + relation(
            swapped(numbered),
            "Which element has the atomic number {}?",
            "The atomic number {} belongs to which element?",
            "Which element has {} protons?",
        )
        + relation(
            numbered,
            "What is the atomic number of {}?",
            "Which atomic number belongs to {}?",
            "How many protons has an atom of {}?",
        ),
    )


def antonyms() -> Subject:
    """Return questions about words and their opposites."""
    return Subject(
        "antonyms",
        relation(
            facts.ANTONYMS + swapped(facts.ANTONYMS),
            "Which word is the opposite of {}?",
            "What is the opposite of {}?",
            "Which word means the contrary of {}?",
        ),
    )


def word_forms() -> Subject:
    """Return questions about plurals and past tenses."""
    return Subject(
        "word_forms",
        relation(
            facts.PAST_TENSES,
            "What is the past tense of {}?",
            "Which past tense has the verb {}?",
            "Today they {}. What did they do yesterday?",
        )
        + relation(
            swapped(facts.PAST_TENSES),
            "Which verb has the past tense {}?",
            "The form {} is the past tense of which verb?",
            "Yesterday they {}. What do they do today?",
        )
        + relation(
            facts.PLURALS,
            "What is the plural of {}?",
            "Which plural has the noun {}?",
            "There is one {}. What are two of them called?",
        ),
    )


def calendar() -> Subject:
    """Return questions about months and days of the week."""
    return Subject("calendar", _months() + _weekdays())


def _months() -> tuple[Fact, ...]:
    months = facts.MONTHS
    numbered = tuple((month, str(number)) for number, month in enumerate(months, 1))
    return (
        relation(
            _shifted(months, 1),
            "Which month comes right after {}?",
            "What is the month after {}?",
            "Which month follows {}?",
            "After the month {} comes which month?",
        )
        + relation(
            _shifted(months, -1),
            "Which month comes right before {}?",
            "What is the month before {}?",
            "Which month precedes {}?",
            "Before the month {} comes which month?",
        )
        + relation(
            _shifted(months, 2),
            "Which month comes two months after {}?",
            "It is {}. Which month is it in two months?",
            "What is the second month after {}?",
            "Two months after {} it is which month?",
        )
        + relation(
            swapped(numbered),
            "Which month is number {} of the year?",
            "What is month {} of the year?",
            "Which month is written {} in a date?",
            "In a date the number {} stands for which month?",
        )
        + relation(
            numbered,
            "What is the number of the month {}?",
            "Which number has {} among the months?",
            "How is the month {} written in a date?",
            "In a date which number stands for {}?",
        )
        + relation(
            facts.MONTH_DAYS,
            "How many days has {} in a common year?",
            "In a common year, what is the number of days in {}?",
            "How many days long is {} in a common year?",
            "What is the length of {} in days in a common year?",
            pool=("27", "29", "32"),
        )
    )


def _weekdays() -> tuple[Fact, ...]:
    days = facts.WEEKDAYS
    return (
        relation(
            _shifted(days, 1),
            "Which day comes right after {}?",
            "Today is {}. Which day is tomorrow?",
            "What is the day after {}?",
            "After {} comes which day?",
        )
        + relation(
            _shifted(days, -1),
            "Which day comes right before {}?",
            "Today is {}. Which day was yesterday?",
            "What is the day before {}?",
            "Before {} comes which day?",
        )
        + relation(
            _shifted(days, 2),
            "Which day comes two days after {}?",
            "Today is {}. Which day is it in two days?",
            "What is the second day after {}?",
            "Two days after {} it is which day?",
        )
        + relation(
            _shifted(days, 3),
            "Which day comes three days after {}?",
            "Today is {}. Which day is it in three days?",
            "What is the third day after {}?",
            "Three days after {} it is which day?",
        )
    )


def _shifted(cycle: tuple[str, ...], by: int) -> tuple[tuple[str, str], ...]:
    return tuple((each, cycle[(place + by) % len(cycle)]) for place, each in enumerate(cycle))


def units_and_measures() -> Subject:
    """Return questions about units, quantities and instruments."""
    return Subject(
        "units_and_measures",
        relation(
            facts.QUANTITIES,
            "Which quantity is measured in the unit {}?",
            "The {} is a unit of which quantity?",
            "What does one measure with the unit {}?",
        )
        + relation(
            facts.INSTRUMENTS,
            "What does the {} measure?",
            "Which quantity is read from the {}?",
            "What is the {} used to measure?",
            pool=dict(swapped(facts.QUANTITIES)),
        )
        + relation(
            facts.UNIT_SYMBOLS,
            "What is the symbol of the unit {}?",
            "Which symbol stands for the unit {}?",
            "How is the unit {} abbreviated?",
        )
        + relation(
            swapped(facts.UNIT_SYMBOLS),
            "Which unit has the symbol {}?",
            "The symbol {} stands for which unit?",
            "Which unit is abbreviated {}?",
        )
        + relation(
            facts.COUNTS, "How many {}?", "What number of {}?", "Say how many {}.", pool=("5", "20", "90")
        ),
    )


def alphabet() -> Subject:
    """Return questions about the order of letters."""
    letters = facts.LETTERS
    numbered = tuple((letter, str(number)) for number, letter in enumerate(letters, 1))
    return Subject(
        "alphabet",
        relation(
            pairwise(letters),
            "Which letter comes right after {}?",
            "Which letter follows {} in the alphabet?",
            "What is the next letter after {}?",
            pool=letters,
        )
        + relation(
            swapped(pairwise(letters)),
            "Which letter comes right before {}?",
            "Which letter precedes {} in the alphabet?",
            "What is the last letter before {}?",
            pool=letters,
        )
        + relation(
            swapped(numbered),
            "Which letter is number {} of the alphabet?",
            "Which letter has the place {} in the alphabet?",
            "What is letter {} of the alphabet?",
        )
        + relation(
            numbered,
            "Which place in the alphabet has the letter {}?",
            "What is the number of the letter {} in the alphabet?",
            "At which place of the alphabet is the letter {}?",
        ),
    )


def kinds_of_things() -> Subject:
    """Return questions about things and their kinds."""
    return Subject(
        "kinds_of_things",
        relation(
            facts.KINDS,
            "What kind of thing is called {}?",
            "The word {} names what kind of thing?",
            "To which kind does {} belong?",
        ),
    )


def elementary_arithmetic() -> Subject:
    """Return questions about sums and differences."""
    sums = ((left, right, left + right) for left, right in combinations_with_replacement(range(1, 21), 2))
    differences = ((left + right, right, left) for left, right in product(range(1, 21), repeat=2))
    return Subject(
        "elementary_arithmetic",
        tuple(
            Fact(
                _both_ways(left, right, "What is {} + {}?", "What is the sum of {} and {}?"),
                str(result),
                _others(result),
            )
            for left, right, result in sums
        )
        + tuple(
            Fact(
                (
                    f"What is {left} - {right}?",
                    f"How much is left of {left} when {right} is taken away?",
                ),
                str(result),
                _others(result),
            )
            for left, right, result in differences
        ),
        whole_facts=True,
    )


def _both_ways(left: int, right: int, *wordings: str) -> tuple[str, ...]:
    orders = dict.fromkeys(((left, right), (right, left)))
    return tuple(wording.format(*order) for wording in wordings for order in orders)


def _others(number: int) -> tuple[str, ...]:
    return tuple(str(other) for other in range(41) if other != number)


def all_subjects() -> tuple[Subject, ...]:
    """Return all subjects of the benchmark."""
    return (
        alphabet(),
        antonyms(),
        calendar(),
        chemical_elements(),
        elementary_arithmetic(),
        kinds_of_things(),
        units_and_measures(),
        word_forms(),
        world_capitals(),
    )
