"""Prompt formats: header, questions and shots as text, and what is left out of a prompt that is too long.

Hendrycks et al. 2021 (their `evaluate.py`), EleutherAI's lm-evaluation-harness and FlagPerf each have their
own format of MMLU; a single byte of difference changes accuracy. The others word a question as follows:

- `cmmlu`: `src/mp_utils.py` of haonan-li/CMMLU, without chain of thought. Where a prompt is longer than its
  2,048 tokens that program leaves out the longest shot; here it is the last.
- `ceval`: `code/evaluator_series/evaluators/llama.py` of hkust-nlp/ceval, without chain of thought. It cuts
  nothing.
- `mmlu-pro`: MMLU-Pro's own programs have the model think first, and read the letter in what it writes. By
  letter it was scored by lm-evaluation-harness (0.4.13), `tasks/leaderboard/mmlu_pro`, for the Open LLM
  Leaderboard 2: this is its wording. The shots are of the question's own category, as in
  `evaluate_from_local.py` of TIGER-AI-Lab/MMLU-Pro; the harness takes the first five of all categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmlu_client.data.family import CEVAL, CMMLU, MMLU, MMLU_PRO, Family
from mmlu_client.data.question import Letter, Question
from mmlu_client.prompts.chinese_names import CEVAL_NAMES, CMMLU_NAMES

TooLong = Literal["drop-last-shot", "drop-first-shot", "cut-left"]


@dataclass(frozen=True)
class PromptFormat:
    """The format of one program.

    Attributes:
        name: Its name.
        introduction: What the prompts of a subject begin with; `{}` stands for its name.
        stripped: Whether a question loses the white space at its ends.
        too_long: What is left out of a prompt that is too long.
        max_tokens: The limit of the format's own program, whatever the model accepts; None: the model's
            limit.
        before_question: What comes before a question.
        before_answer: What comes between the options and the place of the answer.
        before_letter: What comes between that and the letter.
        subject_names: The subjects' names in the introduction, where they are not their own, with blanks for
            underscores.
    """

    name: str
    introduction: str
    stripped: bool
    too_long: TooLong
    max_tokens: int | None
    before_question: str = ""
    before_answer: str = "\nAnswer:"
    before_letter: str = " "
    subject_names: Mapping[str, str] = field(default_factory=dict)

    def header(self, subject: str) -> str:
        """Return the first lines of every prompt of a subject."""
        return self.introduction.replace("{}", self.subject_names.get(subject, subject.replace("_", " ")))

    def body(self, question: Question) -> str:
        """Return the question with its options, up to the place of the answer."""
        text = question.text.strip() if self.stripped else question.text
        options = "".join(
            f"\n{letter}. {option}" for letter, option in zip(question.letters, question.options, strict=True)
        )
        return f"{self.before_question}{text}{options}{self.before_answer}"

    def answer(self, letter: Letter) -> str:
        """Return what is appended to `body` where the answer is this letter."""
        return f"{self.before_letter}{letter}"

    def shot(self, question: Question) -> str:
        """Return the question with its answer."""
        return f"{self.body(question)}{self.answer(question.answer)}\n\n"

    def head(self, subject: str, shots: Sequence[Question]) -> str:
        """Return what every prompt of a subject with these shots begins with."""
        return self.header(subject) + "".join(map(self.shot, shots))

    def fewer(self, shots: Sequence[Question]) -> Sequence[Question]:
        """Return the shots without the one that is left out first."""
        return shots[1:] if self.too_long == "drop-first-shot" else shots[:-1]


# Two spaces, because the original puts one before every word of the subject.
_HENDRYCKS = "The following are multiple choice questions (with answers) about  {}.\n\n"
_FORMATS = (
    PromptFormat("hendrycks", _HENDRYCKS, stripped=False, too_long="drop-last-shot", max_tokens=2048),
    PromptFormat(
        "lm-eval",
        "The following are multiple choice questions (with answers) about {}.\n\n",
        stripped=True,
        too_long="cut-left",
        max_tokens=None,
    ),
    PromptFormat("flagperf", _HENDRYCKS, stripped=False, too_long="drop-first-shot", max_tokens=2048),
    PromptFormat(
        "cmmlu",
        "以下是关于{}的单项选择题，请直接给出正确答案的选项。\n\n",
        stripped=False,
        too_long="drop-last-shot",
        max_tokens=2048,
        before_question="题目：",
        before_answer="\n答案是：",
        before_letter="",
        subject_names=CMMLU_NAMES,
    ),
    PromptFormat(
        "ceval",
        "以下是中国关于{}考试的单项选择题，请选出其中的正确答案。\n\n",
        stripped=False,
        too_long="drop-last-shot",
        max_tokens=None,
        before_answer="\n答案：",
        before_letter="",
        subject_names=CEVAL_NAMES,
    ),
    PromptFormat("mmlu-pro", "", stripped=False, too_long="cut-left", max_tokens=None),
)
FORMATS = {style.name: style for style in _FORMATS}
# Of a benchmark, where none is asked for.
DEFAULT_FORMATS = {
    MMLU.name: "hendrycks",
    CMMLU.name: "cmmlu",
    CEVAL.name: "ceval",
    MMLU_PRO.name: "mmlu-pro",
}


def format_for(requested: str | None, family: Family) -> PromptFormat:
    """Return the format that is asked for, or else the benchmark's own."""
    return FORMATS[requested or DEFAULT_FORMATS[family.name]]
