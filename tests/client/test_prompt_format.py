"""Prompts byte for byte."""

from __future__ import annotations

import pytest
from mmlu_client.data.question import Question
from mmlu_client.prompts.format import FORMATS

SHOT = Question("abstract_algebra", 0, " Is 2 prime? ", ("no", "yes", "None", "both "), "B")
QUESTION = Question("abstract_algebra", 3, "First.\n\nWhich? \n", ("a", " b", "", "None"), "D")

UNSTRIPPED = (
    "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
    " Is 2 prime? \nA. no\nB. yes\nC. None\nD. both \nAnswer: B\n\n"
    "First.\n\nWhich? \n\nA. a\nB.  b\nC. \nD. None\nAnswer:"
)
STRIPPED = (
    "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    "Is 2 prime?\nA. no\nB. yes\nC. None\nD. both \nAnswer: B\n\n"
    "First.\n\nWhich?\nA. a\nB.  b\nC. \nD. None\nAnswer:"
)


@pytest.mark.parametrize(
    ("name", "expected"), [("hendrycks", UNSTRIPPED), ("flagperf", UNSTRIPPED), ("lm-eval", STRIPPED)]
)
def test_prompt_is_the_published_one(name: str, expected: str) -> None:
    style = FORMATS[name]
    assert style.head("abstract_algebra", [SHOT]) + style.body(QUESTION) == expected


def test_subject_words_are_apart() -> None:
    header = FORMATS["hendrycks"].header("high_school_us_history")
    assert header.endswith("about  high school us history.\n\n")


@pytest.mark.parametrize(("name", "kept"), [("hendrycks", [0, 1]), ("flagperf", [1, 2])])
def test_which_shot_gives_way(name: str, kept: list[int]) -> None:
    shots = [Question("s", index, "?", ("a", "b", "c", "d"), "A") for index in range(3)]
    assert [shot.index for shot in FORMATS[name].fewer(shots)] == kept
