"""What a run asks: the questions of a benchmark in their order, and the shots before them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmlu_client.config.settings import Settings
from mmlu_client.data.benchmark import Benchmark
from mmlu_client.data.question import Question
from mmlu_client.prompts.format import PromptFormat, format_for


@dataclass(frozen=True)
class Workload:
    """What a run asks.

    Attributes:
        benchmark: what the questions are from.
        subjects: their names.
        questions: all that are to be answered, in the order in which they are asked.
        shots: the solved questions of each subject, by its name.
        style: the format of the prompts.
    """

    benchmark: Benchmark
    subjects: Sequence[str]
    questions: Sequence[Question]
    shots: Mapping[str, Sequence[Question]]
    style: PromptFormat


def workload_of(settings: Settings, benchmark: Benchmark) -> Workload:
    """Choose a run's questions and shots.

    Raises:
        InputError: the benchmark lacks subjects or shots that are asked for.
    """
    subjects = benchmark.pick_subjects(settings.subjects)
    questions = _in_order(benchmark.questions(subjects, settings.limit), settings)
    shots = benchmark.shots(subjects, settings.few_shots)
    style = format_for(settings.prompt_format, benchmark.family)
    return Workload(benchmark, subjects, questions, shots, style)


def _in_order(questions: list[Question], settings: Settings) -> list[Question]:
    """Put the questions in the order in which they are asked; keep as many as --request-count asks for."""
    if settings.is_shuffled:
        random.Random(settings.seed).shuffle(questions)
    requests = settings.load.request_count
    return questions[: requests * settings.batch_size] if requests else questions
