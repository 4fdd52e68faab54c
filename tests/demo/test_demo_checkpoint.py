"""The shipped checkpoint, in plain transformers and fp32: what it weighs and what it knows."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from tools.demo_model.evaluate import Answerer
from tools.demo_model.prompt import prompt
from tools.demo_model.split import Split

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def record(checkpoint: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def answerer(checkpoint: Path) -> Answerer:
    return Answerer(checkpoint)


def test_the_folder_weighs_at_most_eight_megabytes(checkpoint: Path) -> None:
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) <= 8 * MEGABYTE


def test_every_weight_is_there_and_finite(checkpoint: Path) -> None:
    model, loading = LlamaForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert model.config.num_attention_heads > model.config.num_key_value_heads > 1


def test_the_notice_is_one_line_that_says_what_the_accuracy_is_of(checkpoint: Path) -> None:
    notice = (checkpoint / "notice.txt").read_text(encoding="utf-8")
    assert notice == "demo model: small, trained for this demonstration; its questions are not MMLU\n"


def test_the_record_says_how_to_make_it_again(record: dict[str, Any]) -> None:
    assert record["command"].startswith("python -m tools.demo_model.train ")
    steps = sum(stage["steps"] for stage in record["recipe"]["stages"])
    assert record["loss_curve"][-1]["step"] == steps
    # A guess among four letters costs ln 4.
    assert record["loss_curve"][-1]["letter_nats"] < 0.5 * log(4)


def test_the_recorded_accuracy_is_what_a_demonstration_needs(record: dict[str, Any]) -> None:
    accuracy = record["accuracy"]["5-shot"]
    assert accuracy["overall"] >= 0.8
    assert min(accuracy.values()) >= 0.5


RIGHT_OF_FIRST_TWENTY = {
    "alphabet": 20,
    "antonyms": 20,
    "calendar": 17,
    "chemical_elements": 19,
    "elementary_arithmetic": 13,
    "kinds_of_things": 20,
    "units_and_measures": 19,
    "word_forms": 20,
    "world_capitals": 20,
}


def test_the_first_twenty_of_each_subject_are_answered_as_recorded_here(
    answerer: Answerer, splits: list[Split]
) -> None:
    right = {
        each.subject: sum(
            answerer.answer(prompt(each.subject, each.dev, question)) == question.letter
            for question in each.test[:20]
        )
        for each in splits
    }
    assert right == RIGHT_OF_FIRST_TWENTY
