"""The results file that EleutherAI's lm-evaluation-harness (0.4.13) writes for `mmlu` and its like."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmlu_client.data.family import CEVAL, CMMLU, FAMILIES, MMLU, MMLU_PRO
from mmlu_client.data.groups import HARNESS_GROUP_OF, HARNESS_GROUPS
from mmlu_client.data.question import LETTERS
from mmlu_client.figures.accuracy import Accuracy, subject_accuracies
from mmlu_client.figures.end_to_end import client_seconds
from mmlu_client.prompts.format import FORMATS
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.record import INFER

# The harness's names of the groups of all subjects.
ALL = {MMLU.name: "mmlu", CMMLU.name: "cmmlu", CEVAL.name: "ceval-valid", MMLU_PRO.name: "mmlu_pro"}
ALIASES = {group.task: group.alias for group in HARNESS_GROUPS}
# The versions of the harness's own files for these tasks and groups.
TASK_VERSION, GROUP_VERSION = 1.0, "2"


def lm_eval_results(run: FinishedRun) -> dict[str, Any]:
    """Return the content of a results file.

    Subjects are tasks, and groups weight them by their numbers of questions. Subjects that the harness does
    not know are directly below the group of all.
    """
    family = run.manifest.data.family
    subjects = subject_accuracies(run.records.phase(INFER))
    names_of = {task_name(family, name): name for name in subjects}
    tasks = {task: subjects[name] for task, name in names_of.items()}
    subtasks = _subtasks(family, list(subjects))
    groups = {name: _group(name, _leaves(name, subtasks), tasks) for name in subtasks}
    # The harness lists a group here only where tasks are directly below it, which excludes all of MMLU.
    names = [*(group for group, below in subtasks.items() if not tasks.keys().isdisjoint(below)), *tasks]
    return {
        "results": {**groups, **{name: _task(name, family, accuracy) for name, accuracy in tasks.items()}},
        "groups": groups,
        "group_subtasks": subtasks,
        "configs": {task: _config(run, task, name) for task, name in names_of.items()},
        "versions": {**dict.fromkeys(subtasks, GROUP_VERSION), **dict.fromkeys(tasks, TASK_VERSION)},
        "n-shot": dict.fromkeys(names, run.manifest.few_shots),
        "higher_is_better": {name: {"acc": True} for name in names},
        "n-samples": {
            task: {
                "original": run.manifest.data.subject_sizes[name],
                "effective": subjects[name].answered,
            }
            for task, name in names_of.items()
        },
        **envelope(run),
    }


def envelope(run: FinishedRun) -> dict[str, Any]:
    """Return what a results file says of the model and the evaluation, whatever was asked."""
    return {
        "config": {
            "model": run.model.id,
            "model_args": f"engine={run.model.engine.name},precision={run.model.engine.precision}",
            "model_num_parameters": run.model.parameters,
            "batch_size": run.manifest.bs,
            "device": run.model.device.name,
            "limit": run.manifest.data.limit,
            "random_seed": run.manifest.seeds.random_seed,
        },
        "date": run.manifest.started.epoch_ns / 1e9,
        "transformers_version": run.manifest.client.versions["transformers"],
        "max_length": run.manifest.limits.max_prompt_tokens,
        "model_source": "trt-server" if run.model.tells_stages else run.model.engine.name,
        "model_name": run.model.id,
        "model_name_sanitized": sanitized(run.model.id),
        "system_instruction": None,
        "fewshot_as_multiturn": False,
        "chat_template": None,
        "total_evaluation_time_seconds": str(client_seconds(run)),
    }


def sanitized(model: str) -> str:
    """Return a model's name as the harness turns it into the name of a folder."""
    return re.sub(r'["<>:/|\\?*\[\]]+', "__", model)


def task_name(family: str, subject: str) -> str:
    """Return the harness's name of a subject's task."""
    return f"{ALL[family]}_{subject.replace(' ', '_')}"


def _subtasks(family: str, subjects: Sequence[str]) -> dict[str, list[str]]:
    """Return what is directly below each group that has a subject here; MMLU alone has groups of subjects."""
    group_of = HARNESS_GROUP_OF if family == MMLU.name else {}
    by_group = {
        group.task: [task_name(family, name) for name in subjects if group_of.get(name) is group]
        for group in HARNESS_GROUPS
    }
    found = {task: members for task, members in by_group.items() if members}
    others = [task_name(family, name) for name in subjects if name not in group_of]
    return {ALL[family]: [*found, *others], **found}


def _leaves(name: str, subtasks: Mapping[str, Sequence[str]]) -> list[str]:
    below = [leaf for each in subtasks.get(name, ()) for leaf in _leaves(each, subtasks)]
    return below if name in subtasks else [name]


def _task(name: str, family: str, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "name": name,
        "alias": name.removeprefix(f"{ALL[family]}_"),
        "sample_len": accuracy.answered,
        "acc,none": accuracy.share,
        "acc_stderr,none": _or_not_available(task_stderr(accuracy)),
    }


def _group(name: str, leaves: Sequence[str], tasks: Mapping[str, Accuracy]) -> dict[str, Any]:
    members = [tasks[leaf] for leaf in leaves]
    answered = sum(each.answered for each in members)
    return {
        "name": name,
        "alias": ALIASES.get(name, name),
        "sample_len": answered,
        "acc,none": sum(each.correct for each in members) / answered if answered else None,
        "acc_stderr,none": _or_not_available(pooled_stderr(members)),
        "sample_count": {"acc,none": answered},
    }


def task_stderr(accuracy: Accuracy) -> float | None:
    """Return the harness's standard error of a task: the sample's standard deviation (n - 1) over √n.

    It is None for fewer than two questions.
    """
    share, count = accuracy.share, accuracy.answered
    return math.sqrt(share * (1 - share) / (count - 1)) if share is not None and count > 1 else None


def pooled_stderr(accuracies: Sequence[Accuracy]) -> float | None:
    """Return the harness's standard error of a group, from the pooled variance of its tasks.

    It is None where a task has none.
    """
    errors = [task_stderr(each) for each in accuracies]
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return None
    sizes = [each.answered for each in accuracies]
    squares = sum((size - 1) * size * error**2 for size, error in zip(sizes, known, strict=True))
    return math.sqrt(squares / (sum(sizes) - len(sizes)) / sum(sizes))


def _or_not_available(error: float | None) -> float | str:
    return "N/A" if error is None else error


def _config(run: FinishedRun, task: str, subject: str) -> dict[str, Any]:
    """Return a task's settings under the harness's names: those of its own file that also hold here."""
    family, style = FAMILIES[run.manifest.data.family], FORMATS[run.manifest.prompt_format]
    text = "{{question.strip()}}" if style.stripped else "{{question}}"
    options, choices = _options(run, subject)
    return {
        "task": task,
        "task_alias": subject,
        "dataset_path": run.manifest.data.name,
        "dataset_name": subject,
        "test_split": family.asked,
        "fewshot_split": family.shots,
        "doc_to_text": f"{style.before_question}{text}{options}{style.before_answer}",
        "doc_to_target": "answer",
        "doc_to_choice": choices,
        "description": style.header(subject),
        "target_delimiter": style.before_letter,
        "fewshot_delimiter": "\n\n",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": run.manifest.few_shots,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "output_type": "multiple_choice",
        "repeats": 1,
        "should_decontaminate": False,
        "unsafe_code": False,
        "metadata": {"version": TASK_VERSION, "prompt_format": run.manifest.prompt_format},
    }


def _options(run: FinishedRun, subject: str) -> tuple[str, list[str] | str]:
    """Return the templates of the options in a subject's prompts, and of its choices.

    Where questions have different numbers of options, they are templates that go through each one's own.
    """
    infer = run.records.phase(INFER)
    mine = infer.where((infer["subject"] == subject) & infer.is_scored)
    counts = set(mine.options.tolist())
    if len(counts) == 1:
        letters: list[str] = list(LETTERS[: counts.pop()])
        return "".join(f"\n{each}. {{{{choices[{place}]}}}}" for place, each in enumerate(letters)), letters
    every = "".join(LETTERS)
    return (
        f"{{% for choice in choices %}}\n{{{{'{every}'[loop.index0]}}}}. {{{{choice}}}}{{% endfor %}}",
        f"{{{{'{every}'[:choices|length]|list}}}}",
    )
