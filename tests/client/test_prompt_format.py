"""Prompts byte for byte."""

from __future__ import annotations

import pytest
from mmlu_client.data.family import CEVAL, CMMLU, MMLU, MMLU_PRO, Family
from mmlu_client.data.question import Question
from mmlu_client.prompts.format import FORMATS, format_for

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


BY_CMMLU = (
    "以下是关于abstract algebra的单项选择题，请直接给出正确答案的选项。\n\n"
    "题目： Is 2 prime? \nA. no\nB. yes\nC. None\nD. both \n答案是：B\n\n"
    "题目：First.\n\nWhich? \n\nA. a\nB.  b\nC. \nD. None\n答案是："
)
BY_CEVAL = (
    "以下是中国关于abstract algebra考试的单项选择题，请选出其中的正确答案。\n\n"
    " Is 2 prime? \nA. no\nB. yes\nC. None\nD. both \n答案：B\n\n"
    "First.\n\nWhich? \n\nA. a\nB.  b\nC. \nD. None\n答案："
)
BY_LETTER = (
    " Is 2 prime? \nA. no\nB. yes\nC. None\nD. both \nAnswer: B\n\n"
    "First.\n\nWhich? \n\nA. a\nB.  b\nC. \nD. None\nAnswer:"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hendrycks", UNSTRIPPED),
        ("flagperf", UNSTRIPPED),
        ("lm-eval", STRIPPED),
        ("cmmlu", BY_CMMLU),
        ("ceval", BY_CEVAL),
        ("mmlu-pro", BY_LETTER),
    ],
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


def test_each_option_has_its_letter() -> None:
    question = Question("math", 0, "How many?", tuple(map(str, range(10))), "J")
    assert FORMATS["mmlu-pro"].shot(question) == (
        "How many?\nA. 0\nB. 1\nC. 2\nD. 3\nE. 4\nF. 5\nG. 6\nH. 7\nI. 8\nJ. 9\nAnswer: J\n\n"
    )
    three = Question("math", 0, "How many?", ("0", "1", "2"), "C")
    assert FORMATS["hendrycks"].shot(three) == "How many?\nA. 0\nB. 1\nC. 2\nAnswer: C\n\n"


@pytest.mark.parametrize(
    ("name", "subject", "header"),
    [
        ("cmmlu", "computer_science", "以下是关于计算机科学的单项选择题，请直接给出正确答案的选项。\n\n"),
        ("ceval", "accountant", "以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。\n\n"),
        ("mmlu-pro", "computer science", ""),
    ],
)
def test_subjects_have_their_own_names(name: str, subject: str, header: str) -> None:
    assert FORMATS[name].header(subject) == header


@pytest.mark.parametrize(
    ("family", "own"), [(MMLU, "hendrycks"), (CMMLU, "cmmlu"), (CEVAL, "ceval"), (MMLU_PRO, "mmlu-pro")]
)
def test_a_benchmark_has_its_own_format_unless_another_is_asked_for(family: Family, own: str) -> None:
    assert format_for(None, family).name == own
    assert format_for("lm-eval", family).name == "lm-eval"
