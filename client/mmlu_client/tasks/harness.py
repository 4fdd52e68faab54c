"""Tasks by lm-eval's own code: documents and their requests, and what a task makes of the answers.

This module imports lm-eval: see `installed.py`.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lm_eval.api.group import Group
from lm_eval.api.registry import AGGREGATION_REGISTRY
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import handle_non_serializable, hash_string
from trt_common.command_line.path_value import why_no_path
from trt_common.one_line import first_line_of

from mmlu_client.data.item import Key
from mmlu_client.errors import InputError
from mmlu_client.tasks.document import Document, Grade, GradingError, TextRequest, TextScore
from mmlu_client.tasks.installed import lm_eval_version
from mmlu_client.tasks.yaml_file import check_yaml_files

T = TypeVar("T")

# The kinds of requests that a server which scores text can answer.
SCORED = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")


@dataclass(frozen=True)
class TaskChoice:
    """Which tasks are asked, and how.

    Attributes:
        names: of tasks, groups and tags, patterns of them, or paths of YAML files.
        include_path: a folder of the person's own YAML files.
        few_shots: solved documents before each; None: as each task says.
        limit: documents a task; None for all.
    """

    names: tuple[str, ...]
    include_path: Path | None
    few_shots: int | None
    limit: int | None


class TaskSet:
    """Tasks with their documents.

    Attributes:
        documents: all that are asked, task by task.
    """

    def __init__(self, choice: TaskChoice, tasks: Mapping[str, Any], groups: Mapping[str, Any]) -> None:
        """Take tasks whose requests lm-eval has built.

        Args:
            choice: what was asked for.
            tasks: lm-eval's objects, by name.
            groups: those of groups, by name.
        """
        self._choice = choice
        self._tasks = tasks
        self._groups = groups
        self._instances: dict[Key, list[Any]] = {}
        for name, task in tasks.items():
            for instance in task.instances:
                self._instances.setdefault((name, instance.doc_id), []).append(instance)
        for instances in self._instances.values():
            instances.sort(key=lambda each: each.idx)
        self.documents = [self._document(key) for key in self._instances]

    def _document(self, key: Key) -> Document:
        name, index = key
        requests = tuple(map(_text_request, self._instances[key]))
        return Document(name, index, requests, self._tasks[name].get_config("num_fewshot") or 0)

    @property
    def sizes(self) -> dict[str, int]:
        """How many documents each task has, asked or not."""
        return {name: len(task.eval_docs) for name, task in self._tasks.items()}

    @property
    def has_accuracy(self) -> bool:
        """Whether every task has the metric `acc`."""
        return all("acc" in task.aggregation() for task in self._tasks.values())

    def grade(self, key: Key, scores: Sequence[TextScore]) -> Grade:
        """Have a document's task compute its metrics from the scores of its texts.

        Args:
            key: of the document.
            scores: of its texts, in their order.

        Raises:
            GradingError: The task's own code failed.
        """
        try:
            return self._grade(key, scores)
        except Exception as error:  # a person's own task may do anything
            raise GradingError(f"its task cannot grade it: {type(error).__name__}: {error}") from error

    def _grade(self, key: Key, scores: Sequence[TextScore]) -> Grade:
        task, instances = self._tasks[key[0]], [copy.copy(each) for each in self._instances[key]]
        for instance, score in zip(instances, scores, strict=True):
            is_rolling = instance.request_type == "loglikelihood_rolling"
            answer = score.loglikelihood if is_rolling else (score.loglikelihood, bool(score.is_greedy))
            instance.resps = [answer] * (instance.repeats or 1)
            instance.filtered_resps = {}
        for each in task._filters:
            each.apply(instances)
        document = instances[0].doc
        metrics = {
            name: _plain(task.process_results(document, [each.filtered_resps[name] for each in instances]))
            for name in instances[0].filtered_resps
        }
        return Grade(metrics, *_choices(task, document, scores))

    def sample(
        self, key: Key, scores: Sequence[TextScore], metrics: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield a document as lm-eval logs it, once for each filter.

        Args:
            key: of the document.
            scores: of its texts.
            metrics: what `grade` made of them.
        """
        task, instances = self._tasks[key[0]], self._instances[key]
        document, target = instances[0].doc, task.doc_to_target(instances[0].doc)
        answers: list[Any] = [
            str(each.loglikelihood)
            if each.is_greedy is None
            else [str(each.loglikelihood), str(each.is_greedy)]
            for each in scores
        ]
        text = json.dumps(document, indent=2, default=handle_non_serializable, ensure_ascii=False)
        for name, values in metrics.items():
            yield {
                "doc_id": key[1],
                "doc": json.loads(text),
                "target": str(target),
                "arguments": {
                    f"gen_args_{place}": {f"arg_{number}": each for number, each in enumerate(instance.args)}
                    for place, instance in enumerate(instances)
                },
                "resps": [[answer] for answer in answers],
                "filtered_resps": answers,
                "filter": name,
                "metrics": list(values),
                "doc_hash": hash_string(text),
                "prompt_hash": hash_string(instances[0].arguments[0]),
                "target_hash": hash_string(str(target)),
                **values,
            }

    def as_json(self) -> dict[str, Any]:
        """Describe the tasks for the manifest, so that figures need neither them nor their data again."""
        return {
            "names": list(self._choice.names),
            "include_path": str(self._choice.include_path) if self._choice.include_path else None,
            "lm_eval_version": lm_eval_version(),
            "tasks": {name: self._task_as_json(task) for name, task in self._tasks.items()},
            "groups": {name: _group_as_json(group) for name, group in self._groups.items()},
        }

    def _task_as_json(self, task: Any) -> dict[str, Any]:
        config = task.dump_config()
        return {
            "version": task.VERSION,
            "output_type": task.OUTPUT_TYPE,
            "few_shots": config.get("num_fewshot") or 0,
            "documents": len(task.eval_docs),
            "aggregations": {
                metric: aggregation_name(function) for metric, function in task.aggregation().items()
            },
            "higher_is_better": task.higher_is_better(),
            "config": json.loads(json.dumps(config, default=handle_non_serializable, ensure_ascii=False)),
        }


def load_tasks(choice: TaskChoice) -> TaskSet:
    """Load tasks with their data, and have lm-eval build the requests of their documents.

    Seeds are those of `lm_eval` where its own flags are not given.

    Raises:
        InputError: There is no such task, its data cannot be loaded, or it asks for something else than
            log-likelihoods.
    """
    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    if choice.include_path is not None and not choice.include_path.is_dir():
        raise InputError(f"--include-path {choice.include_path} is not a folder")
    check_yaml_files(_own_files(choice))
    manager = _quietly("--include-path", lambda: task_manager(choice.include_path, choice.names))
    names = _known_names(choice.names, manager)
    for name in names:
        _check_type_in_file(name, manager)
    loaded = _quietly(f"--task {','.join(choice.names)}", lambda: manager.load(names))
    for name, task in loaded["tasks"].items():
        _check_type(name, task.OUTPUT_TYPE)
        _check_is_text(name, task)
        _set_shots(task, choice.few_shots)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        _quietly(f"--task {name}", lambda: task.build_all_requests(limit=choice.limit))  # noqa: B023
        for instance in task.instances:
            _check_type(name, instance.request_type)
    return TaskSet(choice, loaded["tasks"], loaded.get("groups", {}))


def _own_files(choice: TaskChoice) -> Iterator[Path]:
    """Yield the person's own YAML files."""
    if choice.include_path is not None:
        yield from sorted(path for path in choice.include_path.rglob("*.yaml") if path.is_file())
    yield from (Path(name) for name in choice.names if _is_file(name))


def _is_file(name: str) -> bool:
    return why_no_path(name) is None and Path(name).is_file()


@lru_cache(maxsize=2)
def task_manager(include_path: Path | None, names: tuple[str, ...]) -> Any:
    """Return lm-eval's index of the tasks that these names need.

    Reading lm-eval's own thousands of files takes seconds, and is left out where the person's folder has all.
    """
    if include_path is not None:
        own = TaskManager(include_path=include_path, include_defaults=False)
        if all(_is_whole(name, own.task_index) for name in names):
            return own
    return TaskManager(include_path=include_path)


def _is_whole(name: Any, index: Mapping[str, Any]) -> bool:
    """Return whether an index has a task, or a group with all that is below it."""
    entry = index.get(name) if isinstance(name, str) else None
    if entry is None or entry.kind.name not in ("TASK", "PY_TASK", "GROUP"):
        return False
    below = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else []
    return isinstance(below, list) and all(_is_whole(each, index) for each in below)


@lru_cache(maxsize=64)
def own_aggregations(name: str, include_path: Path | None) -> Mapping[str, Any]:
    """Load a task for the functions that aggregate its metrics.

    Raises:
        Exception: What lm-eval and datasets raise.
    """
    loaded = task_manager(include_path, (name,)).load([name])
    found: Mapping[str, Any] = loaded["tasks"][name].aggregation()
    return found


def aggregation_name(function: Any) -> str | None:
    """Return the name that lm-eval knows a function of aggregation by; None for a task's own."""
    return next((name for name, known in AGGREGATION_REGISTRY.items() if known is function), None)


def _check_is_text(name: str, task: Any) -> None:
    """Refuse a task that asks for more than a model that continues text can do.

    Raises:
        InputError: It asks of images or sounds, or runs code.
    """
    if getattr(task, "MULTIMODAL", False):
        raise InputError(f"--task {name} asks of images or sounds: a server that scores text cannot be asked")
    if getattr(task, "UNSAFE_CODE", False):
        raise InputError(f"--task {name} runs code that a model wrote: ask it with lm_eval itself")


def _set_shots(task: Any, few_shots: int | None) -> None:
    """Set a task's shots, as `lm_eval` does: a task that says 0 keeps it."""
    own = task.get_config("num_fewshot")
    if few_shots is not None and own != 0:
        task.set_config(key="num_fewshot", value=few_shots)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)


def _known_names(asked: Sequence[str], manager: Any) -> list[str]:
    """Return the names of tasks, groups and tags, of which patterns may stand for several.

    Raises:
        InputError: There is none of that name.
    """
    found: list[str] = []
    for name in asked:
        if name in manager.task_index or _is_file(name):
            found.append(name)
            continue
        several = manager.match_tasks([name]) if any(each in name for each in "*?[") else []
        if not several:
            near = difflib.get_close_matches(name, manager.all_tasks, n=3, cutoff=0.6)
            hint = f"; near it: {', '.join(near)}" if near else ", nor has --include-path"
            raise InputError(f"--task {name}: lm-eval has no task, group or tag of that name{hint}")
        found += several
    return list(dict.fromkeys(found))


def _check_type_in_file(name: str, manager: Any) -> None:
    """Refuse a task by its file alone, so that data which are not asked are not downloaded."""
    entry = manager.task_index.get(name)
    if entry is None or entry.yaml_path is None:
        return
    kind = None
    with contextlib.suppress(Exception):  # what is wrong with the file is told where it is loaded
        kind = load_yaml(entry.yaml_path, resolve_func=False, recursive=True).get("output_type")
    if kind is not None:
        _check_type(name, kind)


def _check_type(name: str, kind: str | None) -> None:
    """Refuse a kind of request, or of task, that a server which scores text cannot answer.

    Raises:
        InputError: It is none of SCORED.
    """
    if kind not in SCORED:
        raise InputError(
            f"--task {name} asks for {kind}: a server that scores text answers {', '.join(SCORED)} alone"
        )


def _quietly(what: str, work: Callable[[], T]) -> T:
    """Do work of lm-eval's without what it prints, and return what it returns.

    Raises:
        InputError: It fails.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return work()
    except Exception as error:  # lm-eval and datasets raise what their parsers and file systems raise
        raise InputError(f"{what}: lm-eval cannot load it: {first_line_of(error)}") from None


def _text_request(instance: Any) -> TextRequest:
    if instance.request_type == "loglikelihood_rolling":
        return TextRequest(None, instance.args[0])
    context, text = instance.args
    return TextRequest(context, text)


def _choices(task: Any, document: Any, scores: Sequence[TextScore]) -> tuple[str | None, str | None]:
    """Return the numbers of the right choice and of the one with the largest log-likelihood."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None, None
    choices = task.doc_to_choice(document)
    likelihoods = [score.loglikelihood for score in scores][: len(choices)]
    right = (task.doc_to_text if getattr(task, "multiple_input", 0) else task.doc_to_target)(document)
    if isinstance(right, str) and right in choices:
        right = choices.index(right)
    answer = str(right) if isinstance(right, int) else None
    return answer, str(max(range(len(likelihoods)), key=likelihoods.__getitem__))


def _group_as_json(group: Group) -> dict[str, Any]:
    aggregated = group.aggregate_metric_list
    return {
        "alias": group.alias,
        "children": group.child_names,
        "metadata": group.metadata,
        "aggregate_metric_list": [dict(vars(each)) for each in aggregated] if aggregated else None,
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return value.item() if isinstance(value, np.generic) else value
