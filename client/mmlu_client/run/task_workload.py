"""The documents of lm-eval's tasks as what a run asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trt_common.one_line import one_line

from mmlu_client.config.settings import Settings
from mmlu_client.data.item import Key
from mmlu_client.errors import InputError
from mmlu_client.prompts.limit import PromptLimit, prompt_limit
from mmlu_client.prompts.prompt import Unaskable
from mmlu_client.report.task_files import write_task_files
from mmlu_client.run.workload import Scorer, in_order
from mmlu_client.rundir.answered import AnsweredItem
from mmlu_client.rundir.document_record import (
    DocumentRecord,
    record_of_document,
    record_of_unaskable_document,
)
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.manifest import DataPart
from mmlu_client.service.remote_server import RemoteServer
from mmlu_client.tasks.document import Document, Grade, GradingError, documents_sha256
from mmlu_client.tasks.installed import lm_eval_module
from mmlu_client.tasks.prompts import DocumentPrompts, ScoringLimits
from mmlu_client.tasks.scores import text_scores

if TYPE_CHECKING:
    from mmlu_client.tasks.harness import TaskSet


@dataclass(frozen=True)
class TaskSource:
    """Tasks, of whose documents runs are made.

    Attributes:
        name: what `--task` names.
        tasks: the tasks.
    """

    name: str
    tasks: TaskSet

    def workload(self, settings: Settings) -> TaskWorkload:
        """Choose the documents of a run. See `Source`."""
        if settings.early_stop is not None and not self.tasks.has_accuracy:
            raise InputError(f"--early-stop is of accuracy, and not every task of --task {self.name} has it")
        return TaskWorkload(settings, self.name, self.tasks, in_order(self.tasks.documents, settings))

    def write_lm_eval_files(self, run: FinishedRun) -> None:
        """Write a run's files as lm-evaluation-harness does. See `Source`."""
        write_task_files(run, lambda: self.tasks)


def task_source(settings: Settings) -> TaskSource:
    """Load the tasks that the flags name.

    Raises:
        InputError: lm-eval is not installed, there is no such task, or it cannot be asked.
    """
    harness: Any = lm_eval_module("harness", "--task")
    names = settings.tasks or ()
    choice = harness.TaskChoice(names, settings.include_path, settings.few_shots, settings.limit)
    return TaskSource(",".join(names), harness.load_tasks(choice))


class TaskWorkload:
    """Documents of tasks. See `Workload`.

    Attributes:
        items: the documents, in the order in which they are asked.
        note: nothing has to be known of tasks before a run.
        prompt_format: whose prompts are made.
    """

    note = ""
    prompt_format = "lm-eval"

    def __init__(self, settings: Settings, name: str, tasks: TaskSet, documents: Sequence[Document]) -> None:
        """Take what a run asks.

        Args:
            settings: of the run.
            name: what `--task` names.
            tasks: what the documents are of.
            documents: in the order in which they are asked.
        """
        self.items: Sequence[Document] = documents
        self._settings = settings
        self._name = name
        self._task_set = tasks
        self._documents: dict[Key, Document] = {document.key: document for document in documents}

    @property
    def data(self) -> DataPart:
        """What the manifest holds of the documents."""
        sizes = self._task_set.sizes
        return DataPart(
            name=self._name,
            sha256=documents_sha256(self._task_set.documents),
            subjects=tuple(sizes),
            subject_sizes=sizes,
            limit=self._settings.limit,
            questions=len(self.items),
            benchmark_questions=sum(sizes.values()),
            order="shuffled" if self._settings.is_shuffled else "file",
        )

    @property
    def few_shots(self) -> int | None:
        """How many shots a prompt is to have; None where tasks differ."""
        counts = {document.shots for document in self._task_set.documents}
        return counts.pop() if len(counts) == 1 else None

    @property
    def tasks(self) -> dict[str, Any]:
        """What the manifest holds of the tasks."""
        return self._task_set.as_json()

    def check(self, server: RemoteServer) -> None:
        """Check that a server scores continuations and a prompt's own tokens. See `Workload`."""
        if not server.model.max_top_tokens and not server.model.tells_stages:
            raise InputError(
                f"--task: {server.name} ({server.model.server_version}) gives no log-probabilities of a "
                "prompt's own tokens, of which tasks' scores are made"
            )
        if not server.model.max_top_tokens:
            raise InputError(
                f"--task: {server.name} is a trt-server {server.model.server_version} that scores single "
                "tokens alone: start a newer one"
            )

    def limit(self, server_tokens: int) -> PromptLimit:
        """Return the limit on the prompts. See `Workload`."""
        return prompt_limit(None, self._settings.max_prompt_tokens, server_tokens)

    def prompts(self, scorer: Scorer) -> DocumentPrompts:
        """Return what makes the prompts. See `Workload`."""
        encoding: Any = lm_eval_module("encoding", "--task")
        limits = ScoringLimits(
            scorer.limit.tokens, scorer.max_prompt_tokens, scorer.max_positions, scorer.vocabulary_size
        )
        encoder = encoding.load_encoder(scorer.tokenizer_files, scorer.tokenizer.name)
        return DocumentPrompts(encoder, self._documents, limits)

    def record(self, answered: AnsweredItem, phase: str, session: int) -> DocumentRecord:
        """Make the record of a document. See `Workload`."""
        if answered.error is not None:
            return record_of_document(answered, [], answered.error, phase, session)
        scores = text_scores([(part.prompt, part.score) for part in answered.parts if part.score is not None])
        try:
            grade: Grade | str = self._task_set.grade(answered.item.key, scores)
        except GradingError as error:
            grade = one_line(str(error))
        return record_of_document(answered, scores, grade, phase, session)

    def record_of_unaskable(self, unaskable: Unaskable, phase: str, session: int) -> DocumentRecord:
        """Make the record of a document that no prompt could be made of."""
        return record_of_unaskable_document(unaskable, phase, session)
