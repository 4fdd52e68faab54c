"""The head that a subject's prompts share is encoded once, and their ids are those of the whole text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from mmlu import MMLU, needs_mmlu
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.data.question import Question
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.prompt import Prompt
from tokenizer_kinds import CUT_KINDS, WHOLE_KINDS, Encoding, joining

SUBJECT = "world_capitals"
OPTIONS = ("Rome", "Paris", "Berlin", "Madrid")
SHOTS = [Question(SUBJECT, index, f"What is capital {index}?", OPTIONS, "B") for index in range(5)]
# Beginnings that a splitter or a merge might join to what stands before them.
STARTS = (
    "Which?", "\n\nWhich?", " Which?", "\tWhich?", "\u00a0Which?", "12", "'s", "(A)", "▁", "\u0301e", "日本",
    "<s>", "\r\n", "_", "::", "\n",
)  # fmt: skip


def builder(encoder: Encoding) -> PromptBuilder:
    return PromptBuilder(encoder, FORMATS["hendrycks"], {SUBJECT: SHOTS}, 10**6, 10**6)


def questions_of(*starts: str) -> list[Question]:
    return [Question(SUBJECT, place, start, OPTIONS, "A") for place, start in enumerate(starts)]


QUESTIONS = questions_of(*STARTS)


def prompts(encoder: Encoding, questions: Sequence[Question] = QUESTIONS) -> list[Prompt]:
    built = builder(encoder).build(questions)
    return [prompt for prompt in built if isinstance(prompt, Prompt)]


def whole(question: Question) -> str:
    return FORMATS["hendrycks"].head(SUBJECT, SHOTS) + FORMATS["hendrycks"].body(question)


@pytest.mark.parametrize("kind", CUT_KINDS)
def test_ids_are_those_of_the_whole_text(kind: str) -> None:
    encoder = Encoding(CUT_KINDS[kind](), kind)
    built = prompts(encoder)
    assert len(built) == encoder.rests == len(STARTS)
    assert [prompt.token_ids for prompt in built] == encoder.encode(list(map(whole, QUESTIONS)))


@pytest.mark.parametrize("kind", CUT_KINDS)
def test_the_head_is_encoded_once(kind: str) -> None:
    encoder = Encoding(CUT_KINDS[kind](), kind)
    made = builder(encoder)
    question = Question(SUBJECT, 0, "Which?", OPTIONS, "A")
    made.build([question])
    before = encoder.texts
    made.build([question] * 50)
    assert encoder.texts == before


@pytest.mark.parametrize("kind", WHOLE_KINDS)
def test_others_are_encoded_whole(kind: str) -> None:
    tokenizer = WHOLE_KINDS[kind]()
    assert Encoding(tokenizer).cut(FORMATS["hendrycks"].head(SUBJECT, SHOTS)) is None


def test_a_question_that_the_last_shot_merges_with() -> None:
    """Where one token takes the shot's letter and the question's first, the cut does not hold."""
    encoder = Encoding(joining(" B\n\nZ"))
    cut = encoder.cut(FORMATS["hendrycks"].head(SUBJECT, SHOTS))
    assert cut is not None
    questions = questions_of("Zeb", "Which")
    across, apart = prompts(encoder, questions)
    assert across.token_ids[len(cut.ids)] != cut.first == apart.token_ids[len(cut.ids)]
    assert [across.token_ids, apart.token_ids] == encoder.encode(list(map(whole, questions)))


@needs_mmlu
@pytest.mark.parametrize("kind", CUT_KINDS)
def test_every_prompt_of_mmlu(kind: str) -> None:
    encoder = Encoding(CUT_KINDS[kind](), kind)
    benchmark = load_benchmark(str(MMLU))
    # Each kind has a third of the subjects, and every subject several kinds.
    subjects = benchmark.pick_subjects(None)[list(CUT_KINDS).index(kind) % 3 :: 3]
    # What is joined is the last shot and the question: one shot shows it at a fraction of the time.
    shots, style = benchmark.shots(subjects, 1), FORMATS["hendrycks"]
    made = PromptBuilder(encoder, style, shots, 10**6, 10**6)
    for subject in subjects:
        questions = benchmark.questions([subject], None)
        head = style.head(subject, shots[subject])
        wholes = encoder.encode([head + style.body(question) for question in questions])
        built = made.build(questions)
        assert [prompt.token_ids for prompt in built if isinstance(prompt, Prompt)] == wholes
    assert encoder.rests == len(benchmark.questions(subjects, None))
