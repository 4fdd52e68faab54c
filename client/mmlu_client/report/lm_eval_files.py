"""A run's files as lm-evaluation-harness (0.4.13) writes them with `--output_path … --log_samples`.

Its own tools read them: `results_<time>.json` and for each task `samples_<task>_<time>.jsonl`, in a folder
named after the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mmlu_client.data.benchmark import Benchmark
from mmlu_client.data.question import LETTERS, Question
from mmlu_client.errors import RunError
from mmlu_client.prompts.format import FORMATS, PromptFormat
from mmlu_client.report.lm_eval import lm_eval_results, sanitized, task_name
from mmlu_client.rundir.finished_run import FinishedRun
from mmlu_client.rundir.folder import make_folder, write_text
from mmlu_client.rundir.record import INFER

FOLDER = "lm-eval"
COLUMNS = (
    *("subject", "index", "shots", "predicted", "top_token"),
    *(f"{kind}.{letter}" for kind in ("logprobs", "candidates") for letter in LETTERS),
)


def write_lm_eval_files(run: FinishedRun, load: Callable[[], Benchmark]) -> Path:
    """Write the files into the run's folder.

    Files of an earlier start of the same run are replaced.

    Args:
        run: The run.
        load: Loads the questions that were asked, from which the prompts are made again.

    Returns:
        The folder that the files are in.

    Raises:
        ClientError: The questions cannot be read, or are not those that were asked; the results are written
            by then.
    """
    folder, results, time = results_folder(run), lm_eval_results(run), results_time(run)
    write_results(folder, time, results)
    benchmark = load()
    if benchmark.sha256 != run.manifest.data.sha256:
        raise RunError(
            f"{folder} has no samples: the questions in {benchmark.name} are not those that were asked "
            "(their sha256 is another one)"
        )
    hashes = {}
    for name, answers in _tasks(run):
        samples = [_sample(run, benchmark, answer) for answer in answers]
        hashes[name] = joined_hash(samples)
        lines = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in samples)
        write_text(folder / f"samples_{name}_{time}.jsonl", lines)
    write_results(folder, time, {**results, "task_hashes": hashes})
    return folder


def results_folder(run: FinishedRun) -> Path:
    """Make the folder that the files are in.

    Raises:
        RunError: It cannot be made.
    """
    folder = run.folder / FOLDER / sanitized(run.model.id)
    make_folder(folder)
    return folder


def joined_hash(samples: Sequence[Mapping[str, Any]]) -> str:
    """Return the harness's hash of a task's samples."""
    return _hash("".join(each["doc_hash"] + each["prompt_hash"] + each["target_hash"] for each in samples))


def write_results(folder: Path, time: str, results: Mapping[str, Any]) -> None:
    """Write the file of results.

    Raises:
        NotWrittenError: It cannot be written.
    """
    write_text(folder / f"results_{time}.json", json.dumps(results, indent=2, ensure_ascii=False))


def results_time(run: FinishedRun) -> str:
    """Return when the run began in the harness's format: no colons, microseconds, no time zone."""
    started = datetime.fromtimestamp(run.manifest.started.epoch_ns / 1e9, timezone.utc)
    return started.strftime("%Y-%m-%dT%H-%M-%S.%f")


def _tasks(run: FinishedRun) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each subject's answered questions, as rows of their records, in the order of their file."""
    infer = run.records.phase(INFER)
    scored = infer.where(infer.is_scored)
    for subject in np.unique(scored["subject"].astype(str)).tolist():
        mine = scored.where(scored["subject"] == subject)
        mine = mine.where(np.argsort(mine["index"]))
        columns = [mine[name].tolist() for name in COLUMNS]
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
        yield task_name(run.manifest.data.family, subject), rows


def _sample(run: FinishedRun, benchmark: Benchmark, answer: dict[str, Any]) -> dict[str, Any]:
    """Return one question as the harness logs it.

    Each of `resps` is a log-probability, and whether the candidate was the arg-max of the whole vocabulary.
    """
    question = benchmark.test[answer["subject"]][answer["index"]]
    style, letters = FORMATS[run.manifest.prompt_format], question.letters
    context, right = _context(run, benchmark, question, answer["shots"]), letters.index(question.answer)
    scores = [
        [str(answer[f"logprobs.{each}"]), str(answer[f"candidates.{each}"] == answer["top_token"])]
        for each in letters
    ]
    doc = {
        "question": question.text,
        "subject": question.subject,
        "choices": list(question.options),
        "answer": right,
    }
    return {
        "doc_id": question.index,
        "doc": doc,
        "target": str(right),
        "arguments": {
            f"gen_args_{place}": {"arg_0": context, "arg_1": style.answer(each)}
            for place, each in enumerate(letters)
        },
        "resps": [[score] for score in scores],
        "filtered_resps": scores,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(context),
        "target_hash": _hash(str(right)),
        "acc": float(answer["predicted"] == question.answer),
    }


def _context(run: FinishedRun, benchmark: Benchmark, question: Question, kept: int) -> str:
    """Return the text of a prompt.

    As in the harness it is complete where tokens, and not shots, were left out.
    """
    style = FORMATS[run.manifest.prompt_format]
    shots = benchmark.dev.get(question.subject, ())[: run.manifest.few_shots]
    return style.head(question.subject, _kept(style, shots, kept)) + style.body(question)


def _kept(style: PromptFormat, shots: Sequence[Question], count: int) -> Sequence[Question]:
    if style.too_long == "cut-left":
        return shots
    while len(shots) > count:
        shots = style.fewer(shots)
    return shots


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
