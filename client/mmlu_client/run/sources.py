"""Settings → the data that runs are made of."""

from __future__ import annotations

from mmlu_client.config.settings import Settings
from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.run.question_workload import QuestionSource
from mmlu_client.run.workload import Source


def source_of(settings: Settings) -> Source:
    """Load what the flags name.

    Raises:
        InputError: There is no such data, or it cannot be read.
    """
    return QuestionSource(load_benchmark(settings.data))
