"""No test question was seen in training: every training sequence is made again and looked through."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from tools.demo_model.lessons import Lessons
from tools.demo_model.recipe import RECIPE
from tools.demo_model.split import Split

_SUM = re.compile(r"What is (\d+) \+ (\d+)|What is the sum of (\d+) and (\d+)")
_DIFFERENCE = re.compile(r"What is (\d+) - (\d+)|How much is left of (\d+) when (\d+) is taken away")
# What asks for no fact.
_NO_FACT = "Which option says"


@dataclass(frozen=True)
class Trained:
    """lines: the first line of every block of every sequence. sha256: of all sequences in their order."""

    lines: frozenset[str]
    sha256: str

    @cached_property
    def stems(self) -> set[str]:
        return {stem for line in self.lines for stem in _stems(line)}


@pytest.fixture(scope="module")
def trained(splits: list[Split]) -> Trained:
    """One pass over all sequences."""
    lessons = Lessons(RECIPE.stages, splits, RECIPE.seed)
    lines: set[str] = set()
    digest = hashlib.sha256()
    for step in range(lessons.steps):
        for sequence in lessons.sequences(step):
            digest.update(sequence.encode() + b"\0")
            lines.update(block.partition("\n")[0] for block in sequence.split("\n\n")[1:])
    return Trained(frozenset(lines), digest.hexdigest())


def _stems(line: str) -> tuple[str, str]:
    """What the line asks, without its mark: as it stands, and without a hint in the mark's place."""
    return _unmarked(line), line.rpartition(" ")[0]


def _unmarked(stem: str) -> str:
    return stem[:-1] if stem.endswith(("?", ".")) else stem


def _held_out(splits: list[Split]) -> set[str]:
    return {
        _unmarked(question.stem) for each in splits for question in (*each.dev, *each.test, *each.validation)
    }


def _operands(pattern: re.Pattern[str], stems: set[str]) -> set[tuple[int, ...]]:
    matches = filter(None, map(pattern.fullmatch, stems))
    return {tuple(sorted(int(number) for number in match.groups() if number)) for match in matches}


def test_the_stems_of_the_training_are_found(trained: Trained, splits: list[Split]) -> None:
    """The other tests would pass on an empty set."""
    offered = {_unmarked(stem) for each in splits for fact in each.training for stem in fact.stems}
    facts = [line for line in trained.lines if not line.startswith(_NO_FACT)]
    assert [line for line in facts if offered.isdisjoint(_stems(line))] == []
    assert len(offered & trained.stems) > 0.9 * len(offered)


def test_no_test_dev_or_validation_question_is_asked_in_training(
    trained: Trained, splits: list[Split]
) -> None:
    held_out = _held_out(splits)
    assert len(held_out) == 900
    assert held_out & trained.stems == set()


@pytest.mark.parametrize("pattern", [_SUM, _DIFFERENCE])
def test_arithmetic_is_asked_with_operands_that_training_has_not(
    pattern: re.Pattern[str], trained: Trained, splits: list[Split]
) -> None:
    asked = _operands(pattern, _held_out(splits))
    assert len(asked) > 10
    assert asked & _operands(pattern, trained.stems) == set()


def test_the_checkpoint_was_trained_on_these_sequences(trained: Trained, checkpoint: Path) -> None:
    record = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    assert record["training_sequences_sha256"] == trained.sha256
