"""The shipped tokenizer, as transformers loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tools.demo_model.prompt import header, prompt
from tools.demo_model.split import Split
from tools.demo_model.tokenizer import train_tokenizer, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(checkpoint)


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def test_it_loads_as_a_fast_tokenizer_that_knows_the_models_length(tokenizer: Any) -> None:
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.model_max_length == 2048


def test_training_it_again_gives_the_shipped_files(
    splits: list[Split], checkpoint: Path, tmp_path: Path
) -> None:
    write_tokenizer(train_tokenizer(splits), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (checkpoint / name).read_bytes(), name


def test_its_ids_are_the_models(tokenizer: Any, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    assert len(tokenizer) == config["vocab_size"]
    assert tokenizer.bos_token_id == config["bos_token_id"]
    assert tokenizer.eos_token_id == config["eos_token_id"]


def test_one_bos_stands_in_front(tokenizer: Any, splits: list[Split]) -> None:
    ids = _ids(tokenizer, prompt(splits[0].subject, splits[0].dev, splits[0].test[0]))
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_letter_is_one_token_after_every_prompt(tokenizer: Any, splits: list[Split]) -> None:
    letters = [ids[-1] for ids in (_ids(tokenizer, f"\nAnswer: {letter}") for letter in "ABCD")]
    assert len(set(letters)) == 4
    for each in splits:
        for question in each.test:
            text = prompt(each.subject, each.dev, question)
            ids = _ids(tokenizer, text)
            assert [_ids(tokenizer, f"{text} {letter}") for letter in "ABCD"] == [
                [*ids, letter] for letter in letters
            ]


def test_header_and_shots_are_the_same_tokens_in_every_prompt(tokenizer: Any, splits: list[Split]) -> None:
    for each in splits:
        first, second = (_ids(tokenizer, prompt(each.subject, each.dev, asked)) for asked in each.test[:2])
        shared = _ids(tokenizer, prompt(each.subject, each.dev, each.test[0]).rpartition("\n\n")[0] + "\n\n")
        assert first[: len(shared)] == second[: len(shared)] == shared


def test_every_answer_of_the_benchmark_is_one_token(tokenizer: Any, splits: list[Split]) -> None:
    answers = {question.options[question.answer] for each in splits for question in each.test}
    assert [answer for answer in answers if len(_ids(tokenizer, f" {answer}")) != 2] == []


@pytest.mark.parametrize(
    "text",
    [
        header("abstract_algebra"),
        "naïve café, Ελλάδα, 数学, 🙂",
        "x^2\t+ 1 = 0\r\n\n\n  \nNone  ",
        "2147483648 1e-5",
    ],
)
def test_any_text_comes_back_as_it_was(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(_ids(tokenizer, text), skip_special_tokens=True) == text
