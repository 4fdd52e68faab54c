"""The metrics of documents → those of tasks and groups, by lm-eval's own functions.

This module imports lm-eval: see `installed.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from lm_eval.api.group import AggMetricConfig, Group
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.api.task import Task
from lm_eval.evaluator_utils import _process_results
from trt_common.one_line import first_line_of

from mmlu_client.errors import InputError, RunError
from mmlu_client.tasks.document import DocumentMetrics
from mmlu_client.tasks.harness import own_aggregations

# Of the standard errors that lm-eval draws: `lm_eval --bootstrap_iters 1000` computes the same.
BOOTSTRAP_ITERATIONS = 1000


# What aggregates each metric, by its name.
Functions: TypeAlias = Mapping[str, Callable[..., Any]]


class RecordedTask(Task):  # type: ignore[misc]
    """A task as a run's manifest holds it, without its data: what lm-eval asks of it to aggregate."""

    def __init__(self, name: str, part: Mapping[str, Any], functions: Functions) -> None:
        """Take what the manifest says of a task.

        Args:
            name: the task's.
            part: of the manifest.
            functions: what aggregates each metric.
        """
        self.VERSION = part["version"]
        self._name, self._part, self._functions = name, part, functions

    @property
    def task_name(self) -> str:
        """The task's name."""
        return self._name

    @property
    def eval_docs(self) -> range:
        """As many as the task has documents."""
        return range(self._part["documents"])

    def dump_config(self) -> dict[str, Any]:
        """Return the configuration that the run was made with."""
        return dict(self._part["config"])

    def aggregation(self) -> dict[str, Callable[..., Any]]:
        """Return what aggregates each metric."""
        return dict(self._functions)

    def higher_is_better(self) -> dict[str, Any]:
        """Return whether more is better, by metric."""
        return dict(self._part["higher_is_better"])

    def has_training_docs(self) -> bool:
        """No data are there."""
        return False

    has_validation_docs = has_test_docs = has_training_docs

    def doc_to_text(self, doc: Any) -> Any:
        """Refuse: lm-eval's base class wants it, and aggregation never calls it."""
        raise NotImplementedError

    doc_to_target = doc_to_text

    def construct_requests(self, doc: Any, ctx: Any, **kwargs: Any) -> Any:
        """Refuse: lm-eval's base class wants it, and aggregation never calls it."""
        raise NotImplementedError

    def process_results(self, doc: Any, results: Any) -> Any:
        """Refuse: lm-eval's base class wants it, and aggregation never calls it."""
        raise NotImplementedError


def aggregate(part: Mapping[str, Any], documents: Iterable[DocumentMetrics]) -> dict[str, Any]:
    """Compute the results of tasks and groups, as lm-eval's results file has them.

    Args:
        part: what the manifest says of the tasks.
        documents: the answered ones.

    Returns:
        `results`, `groups`, `group_subtasks`, `configs`, `versions`, `n-shot`, `higher_is_better` and
        `n-samples`, of the tasks that have an answer.

    Raises:
        InputError: A task's own function of aggregation cannot be loaded.
        RunError: lm-eval cannot compute the metrics.
    """
    values: dict[str, dict[tuple[str, str], list[Any]]] = {}
    for each in sorted(documents, key=lambda each: each.index):
        task = values.setdefault(each.task, defaultdict(list))
        for filter_name, metrics in each.metrics.items():
            for metric, value in metrics.items():
                task[metric, filter_name].append(value)
    tasks = {name: _task(name, part) for name in part["tasks"] if name in values}
    accumulated = {
        name: {"task": task, "raw_metrics": values[name], "logged_samples": []}
        for name, task in tasks.items()
    }
    try:
        with _alone(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = _process_results(accumulated, _groups(part, tasks), BOOTSTRAP_ITERATIONS)
            results: dict[str, Any] = found._to_eval_results()
    except Exception as error:  # a perplexity may be too large for a float, and a task may do anything
        raise RunError(f"lm-eval cannot compute the tasks' metrics: {first_line_of(error)}") from None
    return results


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Have lm-eval draw in this process: it would fork one that has threads."""
    variable, before = "DISABLE_MULTIPROC", os.environ.get("DISABLE_MULTIPROC")
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _task(name: str, part: Mapping[str, Any]) -> RecordedTask:
    task = part["tasks"][name]
    names: Mapping[str, str | None] = task["aggregations"]
    functions = {metric: AGGREGATION_REGISTRY[known] for metric, known in names.items() if known is not None}
    is_known = len(functions) == len(names)
    return RecordedTask(name, task, functions if is_known else _own_functions(name, part))


def _own_functions(name: str, part: Mapping[str, Any]) -> Functions:
    """Load a task for the functions that are in its own files."""
    folder = part["include_path"]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return own_aggregations(name, Path(folder) if folder else None)
    except Exception as error:  # lm-eval and datasets raise what their parsers and file systems raise
        raise InputError(
            f"the metrics of {name} are aggregated by functions of its own files, which cannot be loaded: "
            f"{first_line_of(error)}"
        ) from None


def _groups(part: Mapping[str, Any], tasks: Mapping[str, RecordedTask]) -> dict[str, Group]:
    groups = {
        name: Group(
            name,
            each["alias"],
            [AggMetricConfig(**metric) for metric in each["aggregate_metric_list"]]
            if each["aggregate_metric_list"]
            else None,
            each["metadata"],
        )
        for name, each in part["groups"].items()
    }
    for name, group in groups.items():
        for child in part["groups"][name]["children"]:
            if (member := groups.get(child) or tasks.get(child)) is not None:
                group.add(member)
    return groups
