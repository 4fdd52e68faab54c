"""Questions as text, in the format of Hendrycks' evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from tools.demo_model.question import LETTERS, Question


def header(subject: str) -> str:
    """Return the first lines of a prompt.

    The original puts a space before every word of the subject, so that two spaces follow "about".
    """
    words = "".join(f" {word}" for word in subject.split("_"))
    return f"The following are multiple choice questions (with answers) about {words}.\n\n"


def body(question: Question) -> str:
    """Return the question up to and including "Answer:"."""
    options = "".join(
        f"\n{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)
    )
    return f"{question.stem}{options}\nAnswer:"


def prompt(subject: str, shots: Sequence[Question], question: Question) -> str:
    """Return the header, the answered shots and the question."""
    answered = "".join(f"{body(shot)} {shot.letter}\n\n" for shot in shots)
    return header(subject) + answered + body(question)
