"""Header, question and shots as text, and what gives way when a prompt is too long.

Hendrycks et al. 2021 (their `evaluate.py`), EleutherAI's lm-evaluation-harness and FlagPerf each have
their own; a byte of difference moves accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmlu_client.data.question import LETTERS, Question

TooLong = Literal["drop-last-shot", "drop-first-shot", "cut-left"]


@dataclass(frozen=True)
class PromptFormat:
    """about: what stands between "about" and the subject. stripped: questions lose white space at edges.

    max_tokens: where the format's own program cuts, whatever the model takes; None: at the model's limit.
    """

    name: str
    about: str
    stripped: bool
    too_long: TooLong
    max_tokens: int | None

    def header(self, subject: str) -> str:
        name = subject.replace("_", " ")
        return f"The following are multiple choice questions (with answers) about{self.about}{name}.\n\n"

    def body(self, question: Question) -> str:
        """The question up to and including `Answer:`."""
        text = question.text.strip() if self.stripped else question.text
        options = "".join(
            f"\n{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=True)
        )
        return f"{text}{options}\nAnswer:"

    def shot(self, question: Question) -> str:
        return f"{self.body(question)} {question.answer}\n\n"

    def head(self, subject: str, shots: Sequence[Question]) -> str:
        """What every prompt of a subject with these shots begins with."""
        return self.header(subject) + "".join(map(self.shot, shots))

    def fewer(self, shots: Sequence[Question]) -> Sequence[Question]:
        """The shots without the one that gives way first."""
        return shots[1:] if self.too_long == "drop-first-shot" else shots[:-1]


FORMATS = {
    # Two spaces: the original puts one before every word of the subject.
    "hendrycks": PromptFormat("hendrycks", "  ", stripped=False, too_long="drop-last-shot", max_tokens=2048),
    "lm-eval": PromptFormat("lm-eval", " ", stripped=True, too_long="cut-left", max_tokens=None),
    "flagperf": PromptFormat("flagperf", "  ", stripped=False, too_long="drop-first-shot", max_tokens=2048),
}
