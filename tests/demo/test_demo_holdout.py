"""No test question was seen in training: every training sequence is made again and looked through."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.demo_model.lessons import Lessons
from tools.demo_model.recipe import RECIPE
from tools.demo_model.split import Split

_SUM = re.compile(r"What is (\d+) \+ (\d+)|What is the sum of (\d+) and (\d+)")
_DIFFERENCE = re.compile(r"What is (\d+) - (\d+)|How much is left of (\d+) when (\d+) is taken away")
_MATCHING = "Which option says "


@pytest.fixture(scope="module")
def lessons(splits: list[Split]) -> Lessons:
    return Lessons(RECIPE.stages, splits, RECIPE.seed)


@pytest.fixture(scope="module")
def trained_stems(lessons: Lessons) -> set[str]:
    return {stem for sequence in _sequences(lessons) for stem in _stems(sequence)}


def _sequences(lessons: Lessons) -> Iterator[str]:
    for step in range(lessons.steps):
        yield from lessons.sequences(step)


def _stems(sequence: str) -> Iterator[str]:
    """What is asked in a sequence: the first line of each block after the header, without its end."""
    for block in sequence.split("\n\n")[1:]:
        yield _without_end(block.partition("\n")[0])


def _without_end(stem: str) -> str:
    """Without the mark, or the hint that stands in its place."""
    return stem[:-1] if stem.endswith(("?", ".")) else stem.rpartition(" ")[0]


def _held_out(splits: list[Split]) -> set[str]:
    return {_without_end(question.stem) for each in splits for question in (*each.dev, *each.test)}


def _operands(pattern: re.Pattern[str], stems: set[str]) -> set[tuple[int, ...]]:
    matches = filter(None, map(pattern.fullmatch, stems))
    return {tuple(sorted(int(number) for number in match.groups() if number)) for match in matches}


def test_the_stems_of_the_training_are_found(trained_stems: set[str], splits: list[Split]) -> None:
    """The other tests would pass on an empty set."""
    offered = {_without_end(stem) for each in splits for fact in each.training for stem in fact.stems}
    asked = {stem for stem in trained_stems if not stem.startswith(_MATCHING) and stem != _MATCHING.strip()}
    assert asked <= offered
    assert len(asked) > 0.9 * len(offered)


def test_no_test_or_dev_question_is_asked_in_training(trained_stems: set[str], splits: list[Split]) -> None:
    held_out = _held_out(splits)
    assert len(held_out) == 800
    assert held_out & trained_stems == set()


@pytest.mark.parametrize("pattern", [_SUM, _DIFFERENCE])
def test_arithmetic_is_asked_with_operands_that_training_has_not(
    pattern: re.Pattern[str], trained_stems: set[str], splits: list[Split]
) -> None:
    asked = _operands(pattern, _held_out(splits))
    assert len(asked) > 10
    assert asked & _operands(pattern, trained_stems) == set()


def test_the_checkpoint_was_trained_on_these_sequences(lessons: Lessons, checkpoint: Path) -> None:
    digest = hashlib.sha256()
    for sequence in _sequences(lessons):
        digest.update(sequence.encode() + b"\0")
    record = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    assert record["training_sequences_sha256"] == digest.hexdigest()
