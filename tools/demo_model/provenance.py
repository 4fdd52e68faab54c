"""training.json: how the shipped checkpoint was made, and its accuracy."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from tools.demo_model.batch import Loss, mean
from tools.demo_model.evaluate import Answerer, overall
from tools.demo_model.lessons import Lessons
from tools.demo_model.recipe import Recipe
from tools.demo_model.split import DEV_QUESTIONS, Split

# Each point of the loss curve is the mean over this many steps.
CURVE_STEPS = 50


def write_provenance(
    folder: Path,
    recipe: Recipe,
    lessons: Lessons,
    splits: Sequence[Split],
    losses: Sequence[Loss],
    command: str,
) -> None:
    """Measure the checkpoint in `folder` and write training.json beside it."""
    answerer = Answerer(folder)
    record = {
        "command": command,
        "recipe": asdict(recipe),
        "training_sequences_sha256": lessons.sha256(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "processor": platform.machine(),
        "validation_accuracy": _rounded(
            answerer.accuracy([replace(each, test=each.validation) for each in splits], DEV_QUESTIONS)
        ),
        "accuracy": {
            f"{shots}-shot": _rounded(answerer.accuracy(splits, shots)) for shots in (DEV_QUESTIONS, 0)
        },
        "loss_curve": _curve(losses),
    }
    text = json.dumps(record, indent=1)
    (folder / "training.json").write_text(text + "\n", encoding="utf-8")


def _rounded(accuracies: dict[str, float]) -> dict[str, float]:
    return {"overall": round(overall(accuracies), 4)} | {
        subject: round(value, 4) for subject, value in accuracies.items()
    }


def _curve(losses: Sequence[Loss]) -> list[dict[str, Any]]:
    curve = []
    for start in range(0, len(losses), CURVE_STEPS):
        part = losses[start : start + CURVE_STEPS]
        point = mean(part)
        curve.append(
            {
                "step": start + len(part),
                "letter_nats": round(point.letter, 4),
                "word_nats": round(point.word, 4),
                "letters_right": round(point.right, 4),
            }
        )
    return curve
