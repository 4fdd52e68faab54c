"""The questions of a benchmark as what a run asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from mmlu_client.config.settings import FEW_SHOTS, Settings
from mmlu_client.data.benchmark import Benchmark
from mmlu_client.data.item import Item
from mmlu_client.data.question import Question
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import format_for
from mmlu_client.prompts.limit import PromptLimit, prompt_limit
from mmlu_client.prompts.prompt import Prompt, Unaskable
from mmlu_client.report.lm_eval_files import write_lm_eval_files
from mmlu_client.run.workload import Scorer, in_order
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import DataPart
from mmlu_client.rundir.record import Record, record_of, record_of_unaskable
from mmlu_client.service.remote_server import RemoteServer


@dataclass(frozen=True)
class QuestionSource:
    """A benchmark, of whose questions runs are made."""

    benchmark: Benchmark

    def workload(self, settings: Settings) -> QuestionWorkload:
        """Choose a run's questions and shots.

        Raises:
            InputError: The benchmark lacks subjects or shots that are asked for.
        """
        benchmark = self.benchmark
        subjects = benchmark.pick_subjects(settings.subjects)
        questions = in_order(benchmark.questions(subjects, settings.limit), settings)
        shots = benchmark.shots(subjects, shots_of(settings))
        return QuestionWorkload(settings, benchmark, subjects, questions, shots)

    def write_lm_eval_files(self, run: FinishedRun) -> None:
        """Write a run's files as lm-evaluation-harness does for its task `mmlu`. See `Source`."""
        write_lm_eval_files(run, lambda: self.benchmark)


class QuestionWorkload:
    """Questions, and the shots before them. See `Workload`; its items are questions.

    Attributes:
        items: The questions, in the order in which they are asked.
    """

    def __init__(
        self,
        settings: Settings,
        benchmark: Benchmark,
        subjects: Sequence[str],
        questions: Sequence[Question],
        shots: Mapping[str, Sequence[Question]],
    ) -> None:
        """Take what a run asks.

        Args:
            settings: Of the run.
            benchmark: What the questions are from.
            subjects: The names of their subjects.
            questions: All that are to be answered, in the order in which they are asked.
            shots: The solved questions of each subject, by its name.
        """
        self.items: Sequence[Question] = questions
        self._settings = settings
        self._benchmark = benchmark
        self._subjects = subjects
        self._shots = shots
        self._style = format_for(settings.prompt_format, benchmark.family)

    @property
    def data(self) -> DataPart:
        """What the manifest holds of the benchmark."""
        benchmark = self._benchmark
        return DataPart(
            name=benchmark.name,
            sha256=benchmark.sha256,
            subjects=tuple(self._subjects),
            subject_sizes={name: len(benchmark.test[name]) for name in self._subjects},
            limit=self._settings.limit,
            questions=len(self.items),
            benchmark_questions=sum(map(len, benchmark.test.values())),
            order="shuffled" if self._settings.is_shuffled else "file",
            family=benchmark.family.name,
        )

    @property
    def note(self) -> str:
        """What a person has to know of the benchmark's questions."""
        return self._benchmark.family.note

    @property
    def prompt_format(self) -> str:
        """Whose prompts are made."""
        return self._style.name

    @property
    def few_shots(self) -> int:
        """How many shots a prompt is to have."""
        return shots_of(self._settings)

    @property
    def tasks(self) -> None:
        """No tasks of lm-eval are asked."""

    def check(self, server: RemoteServer) -> None:
        """Accept every server: each scores candidates."""

    def limit(self, server_tokens: int) -> PromptLimit:
        """Return the limit on the prompts. See `Workload`."""
        return prompt_limit(self._style, self._settings.max_prompt_tokens, server_tokens)

    def prompts(self, scorer: Scorer) -> QuestionPrompts:
        """Return what makes the prompts. See `Workload`."""
        builder = PromptBuilder(
            scorer.tokenizer, self._style, self._shots, scorer.limit.tokens, scorer.vocabulary_size
        )
        return QuestionPrompts(builder)

    def record(self, answered: AnsweredItem, phase: str, session: int) -> Record:
        """Make the record of a question. See `Workload`."""
        return record_of(answered, cast(Question, answered.item).answer, phase, session)

    def record_of_unaskable(self, unaskable: Unaskable, phase: str, session: int) -> Record:
        """Make the record of a question that no prompt could be made of."""
        return record_of_unaskable(unaskable, cast(Question, unaskable.item).answer, phase, session)


@dataclass(frozen=True)
class QuestionPrompts:
    """Makes the prompts of questions. See `PromptSource`."""

    builder: PromptBuilder

    def build(self, items: Sequence[Item]) -> list[Prompt | Unaskable]:
        """Return one prompt for each question, in order. See `PromptSource`."""
        return self.builder.build(cast(Sequence[Question], items))


def shots_of(settings: Settings) -> int:
    """Return how many shots a prompt is to have."""
    return FEW_SHOTS if settings.few_shots is None else settings.few_shots
