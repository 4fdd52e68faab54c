"""Trains the demo model: writes tokenizer, checkpoint, notice.txt and training.json.

A training that was stopped continues from its saved state.

python -m tools.demo_model.train common/trt_common/demo --state build/demo_model.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trt_common.command_line.streams import take_any_text

from tools.demo_model.architecture import write_checkpoint
from tools.demo_model.batch import mean
from tools.demo_model.lessons import Lessons
from tools.demo_model.provenance import CURVE_STEPS, write_provenance
from tools.demo_model.recipe import RECIPE
from tools.demo_model.split import split
from tools.demo_model.subjects import all_subjects
from tools.demo_model.tokenizer import train_tokenizer, write_tokenizer
from tools.demo_model.training import Training

NOTICE = "demo model: small, trained for this demonstration; its questions are not MMLU"


def train(folder: Path, state: Path, command: str) -> None:
    """Train the model, or continue from `state`, and write everything into `folder`."""
    splits = [split(subject) for subject in all_subjects()]
    lessons = Lessons(RECIPE.stages, splits, RECIPE.seed)
    tokenizer = train_tokenizer(splits)
    training = Training(RECIPE, lessons, tokenizer)
    if state.exists():
        training.load(state)
    _run(training, lessons.steps, state)
    write_checkpoint(training.model, folder)
    write_tokenizer(tokenizer, folder)
    (folder / "notice.txt").write_text(NOTICE + "\n", encoding="utf-8")
    write_provenance(folder, RECIPE, lessons, splits, training.losses, command)


def _run(training: Training, steps: int, state: Path) -> None:
    """Do the remaining steps; print and save at regular steps."""
    while training.step < steps:
        training.advance()
        if training.step % CURVE_STEPS == 0 or training.step == steps:
            training.save(state)
            recent = mean(training.losses[-CURVE_STEPS:])
            print(
                f"step {training.step} of {steps}: letter {recent.letter:.3f} nats,"
                f" word {recent.word:.3f} nats, {recent.right:.3f} of the letters right",
                flush=True,
            )


def main() -> None:
    """Train as the command line says."""
    take_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("--state", type=Path, required=True, help="file to go on from after a stop")
    arguments = parser.parse_args()
    command = f"python -m tools.demo_model.train {arguments.folder} --state {arguments.state}"
    train(arguments.folder, arguments.state, command)


if __name__ == "__main__":
    main()
