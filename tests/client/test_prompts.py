"""Token ids, candidates, shared prefixes and truncation, over tokenizers of several kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from mmlu import MMLU, needs_mmlu
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.data.question import Question
from mmlu_client.errors import InputError
from mmlu_client.prompts.builder import PromptBuilder, common_prefix
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.prompt import Prompt, Unaskable
from tokenizer_kinds import KINDS, Encoding, letters_apart

SUBJECT = "world_capitals"
SHOTS = [
    Question(SUBJECT, index, f"What is capital {index}?", ("Rome", "Paris", "Berlin", "Madrid"), "B")
    for index in range(5)
]
QUESTION = Question(SUBJECT, 7, "Which of the following?", ("one", "two", "three", "four"), "C")

Shots = Mapping[str, Sequence[Question]]


def encoding(kind: str) -> Encoding:
    return Encoding(KINDS[kind](), kind)


def builder(
    encoder: Encoding,
    style: str = "hendrycks",
    max_tokens: int = 2048,
    vocabulary: int = 1000,
    shots: int = 5,
) -> PromptBuilder:
    return PromptBuilder(encoder, FORMATS[style], {SUBJECT: SHOTS[:shots]}, max_tokens, vocabulary)


def build(prompts: PromptBuilder, question: Question = QUESTION) -> Prompt:
    (prompt,) = prompts.build([question])
    assert isinstance(prompt, Prompt)
    return prompt


def text(style: str, shots: Sequence[Question], question: Question = QUESTION) -> str:
    return FORMATS[style].head(SUBJECT, shots) + FORMATS[style].body(question)


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_what_follows_the_prompt(kind: str) -> None:
    encoder = encoding(kind)
    prompt = build(builder(encoder))
    for letter, candidate in zip(QUESTION.letters, prompt.candidate_ids, strict=True):
        (longer,) = encoder.encode([text("hendrycks", SHOTS) + f" {letter}"])
        assert longer == [*prompt.token_ids, candidate]


def test_candidates_are_not_the_letters_alone() -> None:
    encoder = encoding("byte-level")
    alone = [ids[-1] for ids in encoder.encode(list(QUESTION.letters))]
    assert not set(alone) & set(build(builder(encoder)).candidate_ids)


@pytest.mark.parametrize("kind", KINDS)
@needs_mmlu
def test_candidates_hold_for_every_prompt_of_a_subject(kind: str) -> None:
    """Each prompt of real subjects against the definition, carried out in full."""
    encoder = encoding(kind)
    benchmark = load_benchmark(str(MMLU))
    subjects = ["abstract_algebra", "formal_logic", "human_sexuality", "professional_law"]
    questions = benchmark.questions(subjects, 40)
    prompts = PromptBuilder(encoder, FORMATS["hendrycks"], benchmark.shots(subjects, 1), 10**6, 1000)
    for question, prompt in zip(questions, prompts.build(questions), strict=True):
        assert isinstance(prompt, Prompt)
        shots, style = benchmark.dev[question.subject][:1], FORMATS["hendrycks"]
        whole = style.head(question.subject, shots) + style.body(question)
        longer = encoder.encode([f"{whole} {letter}" for letter in question.letters])
        assert longer == [[*prompt.token_ids, candidate] for candidate in prompt.candidate_ids]


def test_candidates_are_not_encoded_for_every_prompt() -> None:
    encoder = encoding("byte-level")
    prompts = builder(encoder)
    prompts.build([QUESTION])
    before = encoder.texts
    prompts.build([QUESTION] * 100)
    assert encoder.texts == before


def test_tokenizer_without_letter_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="does not make one token of each of ' A' to ' D'"):
        build(builder(Encoding(letters_apart()), shots=0), Question(SUBJECT, 0, "one", ("one",) * 4, "A"))


def test_token_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(InputError, match=r"gives token id \d+, the model's vocabulary has 10: it is not"):
        build(builder(encoding("byte-level"), vocabulary=10))


def test_bos_comes_from_the_tokenizer_once() -> None:
    encoder = encoding("byte-level")
    ids = build(builder(encoder)).token_ids
    (bos,) = encoder.encode([""])
    assert ids[:1] == bos
    assert ids.count(bos[0]) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["Which?", "\n\nWhich?", " Which?", "12"])
def test_shared_prefix_is_exact(kind: str, start: str) -> None:
    encoder = encoding(kind)
    question = Question(SUBJECT, 0, start, ("one", "two", "three", "four"), "A")
    prompt = build(builder(encoder), question)
    (head,) = encoder.encode([FORMATS["hendrycks"].head(SUBJECT, SHOTS)])
    shared = prompt.shared_prefix_tokens
    assert prompt.token_ids[:shared] == head[:shared]
    assert shared == len(head) or prompt.token_ids[shared] != head[shared]
    assert len(head) - 3 <= shared < len(prompt.token_ids)


def test_hendrycks_drops_the_last_shots() -> None:
    encoder = encoding("byte-level")
    limit = len(encoder.encode([text("hendrycks", SHOTS[:3])])[0])
    prompt = build(builder(encoder, "hendrycks", limit))
    assert prompt.token_ids == encoder.encode([text("hendrycks", SHOTS[:3])])[0]
    assert prompt.shots == 3


def test_flagperf_drops_the_first_shots() -> None:
    encoder = encoding("byte-level")
    limit = len(encoder.encode([text("flagperf", SHOTS[2:])])[0])
    prompt = build(builder(encoder, "flagperf", limit))
    assert prompt.token_ids == encoder.encode([text("flagperf", SHOTS[2:])])[0]
    assert (prompt.shots, prompt.truncated) == (3, True)
    (head,) = encoder.encode([FORMATS["flagperf"].head(SUBJECT, SHOTS[2:])])
    assert prompt.shared_prefix_tokens >= len(head) - 1


def test_lm_eval_cuts_from_the_left() -> None:
    encoder = encoding("byte-level")
    whole = encoder.encode([text("lm-eval", SHOTS)])[0]
    prompt = build(builder(encoder, "lm-eval", 50))
    assert prompt.token_ids == whole[-50:]
    assert prompt.candidate_ids == build(builder(encoder, "lm-eval")).candidate_ids
    assert prompt.shared_prefix_tokens == 0
    assert (prompt.shots, prompt.truncated) == (0, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", range(6))
def test_shots_count_that_the_cut_leaves_whole(kind: str, kept: int) -> None:
    """Cut where a shot begins, and one token into it. Not where one has no token of its own to begin with."""
    encoder = encoding(kind)
    (whole,) = encoder.encode([text("lm-eval", SHOTS)])
    (before,) = encoder.encode([FORMATS["lm-eval"].head(SUBJECT, SHOTS[: 5 - kept])])
    start = common_prefix(whole, before)
    fits, lacks = (build(builder(encoder, "lm-eval", len(whole) - cut)) for cut in (start, start + 1))
    assert (fits.shots, fits.truncated) == (kept, True)
    assert (lacks.shots, lacks.truncated) == (max(0, kept - 1), True)


def test_no_shot_counts_that_lost_a_word() -> None:
    """At every length, against the text that is left. One that is cut right before may be lost."""
    encoder, tokenizer = encoding("byte-level"), KINDS["byte-level"]()
    (whole,) = encoder.encode([text("lm-eval", SHOTS)])
    for length in range(12, len(whole)):
        prompt = build(builder(encoder, "lm-eval", length))
        left = tokenizer.decode(prompt.token_ids)
        shown = sum(FORMATS["lm-eval"].shot(shot).strip() in left for shot in SHOTS)
        at_a_shot = left.lstrip("\n").startswith("What is capital")
        assert shown - at_a_shot <= prompt.shots <= shown


def test_prompt_that_just_fits_is_left_alone() -> None:
    encoder = encoding("byte-level")
    limit = len(encoder.encode([text("hendrycks", SHOTS)])[0])
    fits, too_long = (build(builder(encoder, "hendrycks", most)) for most in (limit, limit - 1))
    assert (fits.shots, fits.truncated) == (5, False)
    assert (too_long.shots, too_long.truncated) == (4, True)


def test_question_longer_than_the_model_takes_is_not_asked() -> None:
    (prompt,) = builder(encoding("byte-level"), "hendrycks", 20).build([QUESTION])
    assert isinstance(prompt, Unaskable)
    assert "tokens without any shot: the limit is 20" in prompt.reason


def test_what_a_tokenizer_file_asks_for_in_training_is_not_done() -> None:
    tokenizer = KINDS["byte-level"]()
    tokenizer.enable_truncation(10)
    tokenizer.enable_padding()
    encoder = Encoding(tokenizer)
    one, two = encoder.encode(["one", "Answer: A " * 20])
    assert len(one) < 10 < len(two)
