"""Settings → the data that runs are made of."""

from __future__ import annotations

from mmlu_client.config.settings import DATA, Settings
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.run.question_workload import QuestionSource
from mmlu_client.run.task_workload import task_source
from mmlu_client.run.workload import Source


def source_of(settings: Settings) -> Source:
    """Load what the flags name.

    Raises:
        InputError: There is no such data, or it cannot be read; lm-eval is not installed.
    """
    if settings.tasks is not None:
        return task_source(settings)
    return QuestionSource(load_benchmark(settings.data or DATA))
