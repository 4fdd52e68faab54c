"""A finished run as lm-evaluation-harness writes it, whatever the run asked."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.report.lm_eval import lm_eval_results
from mmlu_client.report.lm_eval_files import write_lm_eval_files
from mmlu_client.report.task_files import task_lm_eval_results, write_task_files
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.tasks.installed import lm_eval_module


def harness_results(run: FinishedRun) -> dict[str, Any]:
    """Return the content of a run's results file.

    Raises:
        InputError: The run asked tasks, and lm-eval is not installed.
    """
    return lm_eval_results(run) if run.manifest.tasks is None else task_lm_eval_results(run)


def write_harness_files(run: FinishedRun) -> Path:
    """Write a run's files, with its data loaded again, and return their folder.

    Raises:
        ClientError: They cannot be written, or the data are not those that were asked.
    """
    if run.manifest.tasks is None:
        return write_lm_eval_files(run, partial(load_benchmark, run.manifest.data.name))
    return write_task_files(run, partial(_load_tasks, run))


def _load_tasks(run: FinishedRun) -> Any:
    harness: Any = lm_eval_module("harness", "--format lm-eval")
    part, flags = run.manifest.tasks or {}, run.manifest.flags
    include_path = Path(part["include_path"]) if part["include_path"] else None
    choice = harness.TaskChoice(
        tuple(part["names"]), include_path, flags.get("few_shots"), run.manifest.data.limit
    )
    return harness.load_tasks(choice)
