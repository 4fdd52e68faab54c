"""Prompt formats: header, questions and shots as text, and what is left out of a prompt that is too long.

Hendrycks et al. 2021 (their `evaluate.py`), EleutherAI's lm-evaluation-harness and FlagPerf each have their
own format; a single byte of difference changes accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmlu_client.data.question import LETTERS, Question

TooLong = Literal["drop-last-shot", "drop-first-shot", "cut-left"]


@dataclass(frozen=True)
class PromptFormat:
    """The format of one program.

    Attributes:
        name: Its name.
        about: The text between "about" and the subject.
        stripped: Whether a question loses the white space at its ends.
        too_long: What is left out of a prompt that is too long.
        max_tokens: The limit of the format's own program, whatever the model accepts; None: the model's
            limit.
    """

    name: str
    about: str
    stripped: bool
    too_long: TooLong
    max_tokens: int | None

    def header(self, subject: str) -> str:
        """Return the first lines of every prompt of a subject."""
        name = subject.replace("_", " ")
        return f"The following are multiple choice questions (with answers) about{self.about}{name}.\n\n"

    def body(self, question: Question) -> str:
        """Return the question up to and including `Answer:`."""
        text = question.text.strip() if self.stripped else question.text
        options = "".join(
            f"\n{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)
        )
        return f"{text}{options}\nAnswer:"

    def shot(self, question: Question) -> str:
        """Return the question with its answer."""
        return f"{self.body(question)} {question.answer}\n\n"

    def head(self, subject: str, shots: Sequence[Question]) -> str:
        """Return what every prompt of a subject with these shots begins with."""
        return self.header(subject) + "".join(map(self.shot, shots))

    def fewer(self, shots: Sequence[Question]) -> Sequence[Question]:
        """Return the shots without the one that is left out first."""
        return shots[1:] if self.too_long == "drop-first-shot" else shots[:-1]


FORMATS = {
    # Two spaces, because the original puts one before every word of the subject.
    "hendrycks": PromptFormat("hendrycks", "  ", stripped=False, too_long="drop-last-shot", max_tokens=2048),
    "lm-eval": PromptFormat("lm-eval", " ", stripped=True, too_long="cut-left", max_tokens=None),
    "flagperf": PromptFormat("flagperf", "  ", stripped=False, too_long="drop-first-shot", max_tokens=2048),
}
