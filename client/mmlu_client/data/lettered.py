"""Tables with a column for each option, as CMMLU and C-Eval have: question, A, B, C, D, answer.

The columns' names are read in either case. Other columns, like `id` and `explanation`, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmlu_client.data.question import FEWEST_OPTIONS, LETTERS, Letter, Question, letter_in
from mmlu_client.errors import InputError

TEXT, ANSWER = "question", "answer"


@dataclass(frozen=True)
class LetteredColumns:
    """The names of the columns that a question is made of.

    Attributes:
        text: of the question.
        options: of the options, in the order of their letters.
        answer: of the letter of the right one.
    """

    text: str
    options: tuple[str, ...]
    answer: str

    @property
    def names(self) -> list[str]:
        """The names of all columns that are read."""
        return [self.text, *self.options, self.answer]

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters that the table has options for."""
        return LETTERS[: len(self.options)]

    def question(self, row: Mapping[str, Any], place: str, subject: str, index: int) -> Question:
        """Make a question of a row.

        Args:
            row: the row's cells by column. One that is empty, or null, is an empty text.
            place: what messages call the row.
            subject: the subject's name.
            index: the row's number in the subject, from 0.

        Raises:
            InputError: a cell is no text, there is no question, or the answer is no letter of an option.
        """
        cells = {name: "" if row[name] is None else row[name] for name in self.names}
        for name, cell in cells.items():
            if not isinstance(cell, str):
                raise InputError(f"{place}: {name} is {cell!r}, not text")
        if not cells[self.text].strip():
            raise InputError(f"{place}: the question is empty")
        letter = letter_in(cells[self.answer], self.letters)
        if letter is None:
            raise InputError(
                f"{place}: the answer is {cells[self.answer]!r}, not one of {', '.join(self.letters)}"
            )
        options = tuple(cells[name] for name in self.options)
        return Question(subject, index, cells[self.text], options, letter)


def lettered_columns(names: Sequence[str], place: str) -> LetteredColumns:
    """Find the columns of a table's questions.

    Args:
        names: the table's columns.
        place: what messages call the table.

    Raises:
        InputError: a column is missing; the message names it.
    """
    known = {name.strip().lower(): name for name in names}
    options = [known.get(letter.lower()) for letter in LETTERS]
    last = max((place for place, name in enumerate(options) if name is not None), default=-1)
    wanted = LETTERS[: max(last + 1, FEWEST_OPTIONS)]
    for name in (TEXT, *wanted, ANSWER):
        if name.lower() not in known:
            raise InputError(f"{place}: no column {name!r} (it has {', '.join(map(repr, names))})")
    return LetteredColumns(known[TEXT], tuple(known[letter.lower()] for letter in wanted), known[ANSWER])
