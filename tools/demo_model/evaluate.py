"""Measures the demo model on the demo benchmark with transformers in fp32, one prompt at a time.

python -m tools.demo_model.evaluate common/trt_common/demo
With --validation it uses the questions that the recipe is tuned on instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from trt_common.command_line.streams import take_any_text

from tools.demo_model.prompt import prompt
from tools.demo_model.question import LETTERS
from tools.demo_model.split import DEV_QUESTIONS, Split, split
from tools.demo_model.subjects import all_subjects


class Answerer:
    """A checkpoint that answers each prompt with the most probable of the four letters."""

    def __init__(self, folder: Path) -> None:
        """Load the checkpoint of a folder."""
        # The model is so small that several threads would wait for each other longer than they compute.
        torch.set_num_threads(1)
        self._model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def answer(self, text: str) -> str:
        """Return the letter that answers a prompt."""
        ids = self._tokenizer(text)["input_ids"]
        candidates = [self._tokenizer(f"{text} {letter}")["input_ids"][len(ids)] for letter in LETTERS]
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([ids])).logits[0, -1]
        return LETTERS[int(logits[candidates].argmax())]

    def accuracy(self, splits: Iterable[Split], shots: int) -> dict[str, float]:
        """Return the accuracy on each subject's test questions, after the first `shots` dev questions."""
        return {each.subject: self._accuracy(each, shots) for each in splits}

    def _accuracy(self, part: Split, shots: int) -> float:
        answers = [self.answer(prompt(part.subject, part.dev[:shots], question)) for question in part.test]
        right = sum(answer == question.letter for answer, question in zip(answers, part.test, strict=True))
        return right / len(part.test)


def overall(accuracies: dict[str, float]) -> float:
    """Return the accuracy over all questions; every subject has the same number."""
    return sum(accuracies.values()) / len(accuracies)


def main() -> None:
    """Print the accuracies."""
    take_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--validation", action="store_true", help="ask the validation questions")
    arguments = parser.parse_args()
    answerer = Answerer(arguments.checkpoint)
    splits = [split(subject) for subject in all_subjects()]
    if arguments.validation:
        splits = [replace(each, test=each.validation) for each in splits]
    few, none = answerer.accuracy(splits, DEV_QUESTIONS), answerer.accuracy(splits, 0)
    print(f"{'subject':24}{DEV_QUESTIONS}-shot  0-shot")
    for subject in few:
        print(f"{subject:24}{few[subject]:6.3f}  {none[subject]:6.3f}")
    print(f"{'overall':24}{overall(few):6.3f}  {overall(none):6.3f}")


if __name__ == "__main__":
    main()
