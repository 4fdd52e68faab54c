"""A run of tasks as lm-evaluation-harness (0.4.13) writes it: a results file, and samples of each task."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmlu_client.errors import RunError
from mmlu_client.figures.task_results import task_results
from mmlu_client.report.lm_eval import envelope
from mmlu_client.report.lm_eval_files import joined_hash, results_folder, results_time, write_results
from mmlu_client.rundir.document_metrics import read_document_metrics
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import write_text
from mmlu_client.tasks.document import documents_sha256

if TYPE_CHECKING:
    from mmlu_client.tasks.harness import TaskSet


def task_lm_eval_results(run: FinishedRun) -> dict[str, Any]:
    """Return the content of a results file.

    Raises:
        InputError: lm-eval is not installed.
    """
    return {**(task_results(run) or {}), **envelope(run)}


def write_task_files(run: FinishedRun, load: Callable[[], TaskSet]) -> Path:
    """Write the files into the run's folder, as `report.lm_eval_files.write_lm_eval_files` does.

    Args:
        run: The run.
        load: Loads the tasks that were asked.

    Returns:
        The folder that the files are in.

    Raises:
        ClientError: The tasks cannot be loaded, or their documents are not those that were asked; the results
            are written by then.
    """
    folder, results, time = results_folder(run), task_lm_eval_results(run), results_time(run)
    write_results(folder, time, results)
    tasks = load()
    if documents_sha256(tasks.documents) != run.manifest.data.sha256:
        raise RunError(
            f"{folder} has no samples: the documents of {run.manifest.data.name} are not those that were "
            "asked (their sha256 is another one)"
        )
    hashes = {}
    for name, documents in groupby(read_document_metrics(run.folder), key=lambda each: each.task):
        samples = [
            sample
            for each in documents
            for sample in tasks.sample((each.task, each.index), each.scores, each.metrics)
        ]
        hashes[name] = joined_hash(samples)
        lines = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in samples)
        write_text(folder / f"samples_{name}_{time}.jsonl", lines)
    write_results(folder, time, {**results, "task_hashes": hashes})
    return folder
