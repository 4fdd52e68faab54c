"""lm-evaluation-harness as installed: its `local-completions` against its own `hf` on one checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import TOKENIZER_TEXT, reference_model
from processes import ServerProcess
from transformers import AutoTokenizer

TOLERANCE = 1e-3
# Of hf's windows. The others' is two more: one for the token that is generated, and one because it takes the
# first token of a window to be of this length too.
MAX_LENGTH = 64
SENTENCES = [line for text in TOKENIZER_TEXT[:6] for line in text.splitlines() if line]

CHOICES = {
    "task": "local_choices",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm")],
    "num_fewshot": 1,
    "fewshot_split": "test",
}
NEXT_WORDS = {
    "task": "local_next_words",
    "output_type": "loglikelihood",
    "doc_to_text": "{{context}}",
    "doc_to_target": "{{ending}}",
    "metric_list": [{"metric": name} for name in ("acc", "perplexity")],
}
TEXTS = {
    "task": "local_texts",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}
TASKS: dict[str, dict[str, Any]] = {
    "local_choices": CHOICES,
    "local_next_words": NEXT_WORDS,
    "local_texts": TEXTS,
}


@dataclass(frozen=True)
class Evaluation:
    """What the harness leaves behind: metrics by task, and what it had for each document of each task."""

    metrics: dict[str, dict[str, float]]
    answers: dict[str, list[list[Any]]]


def choice_documents() -> list[dict[str, Any]]:
    return [
        {
            "question": sentence,
            "choices": [" two", " the sea is naïve", " 你好", f" {number} of the contract"],
            "label": number % 4,
        }
        for number, sentence in enumerate(SENTENCES)
    ]


def next_word_documents(folder: Path) -> list[dict[str, str]]:
    """Endings of which some are the model's likeliest: those that stay tokens of their own in the text."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), reference_model(folder)
    documents = []
    for sentence in SENTENCES:
        for words in range(1, 6):
            context = " ".join(sentence.split()[:words])
            ids = tokenizer(context, add_special_tokens=False).input_ids
            likeliest = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            text = context + tokenizer.decode([likeliest])
            if tokenizer(text, add_special_tokens=False).input_ids == [*ids, likeliest]:
                documents.append({"context": context, "ending": text[len(context) :]})
            documents.append({"context": context, "ending": " of one two"})
    return documents[:60]


def write_tasks(folder: Path, checkpoint: Path) -> None:
    documents: dict[str, list[Any]] = {
        "local_choices": choice_documents(),
        "local_next_words": next_word_documents(checkpoint),
        "local_texts": [{"text": "\n".join(SENTENCES[: count + 1]) + " naïve 😀"} for count in range(5)],
    }
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents[name]))
        described = {
            **task,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(described))


def evaluate(
    tasks: Path, output: Path, backend: str, model_arguments: dict[str, Any], arguments: tuple[str, ...] = ()
) -> Evaluation:
    """Run the harness as its command, without the network."""
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tasks / "home"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "lm_eval", "--model", backend,
            "--model_args", ",".join(f"{name}={value}" for name, value in model_arguments.items()),
            "--tasks", ",".join(TASKS), "--include_path", str(tasks), "--output_path", str(output),
            "--log_samples", "--device", "cpu", *arguments,
        ],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (results,) = output.rglob("results_*.json")
    answers = {}
    for name in TASKS:
        (samples,) = output.rglob(f"samples_{name}_*.jsonl")
        found = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda sample: sample["doc_id"])
        answers[name] = [sample["filtered_resps"] for sample in found]
    return Evaluation(
        {
            task: {
                name: value
                for name, value in metrics.items()
                if isinstance(value, float) and not isinstance(value, bool)
            }
            for task, metrics in json.loads(results.read_text())["results"].items()
        },
        answers,
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder, llama_folder)
    return folder


@pytest.fixture(scope="module")
def served(llama_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(llama_folder), "--max-batch-size", "4", "--http-port", "0") as server:
        yield server.wait_until_serving()


# How the harness asks the server, and whether a BOS comes before its texts. Its remote tokenizer has none put
# there, where `hf` goes by the tokenizer's files unless it is told.
WAYS: dict[str, tuple[bool, tuple[str, ...], dict[str, Any]]] = {
    "remote tokenizer, eight at once": (
        False,
        (),
        # It takes a BOS whose id is 0 for none, unless it is told.
        {"tokenizer_backend": "remote", "num_concurrent": 8, "custom_prefix_token_id": 0},
    ),
    "own tokenizer, batches of six": (True, ("--batch_size", "6"), {"tokenizer_backend": "huggingface"}),
}


@pytest.mark.parametrize(("bos", "arguments", "options"), WAYS.values(), ids=WAYS)
def test_local_completions_are_as_hf(
    tasks: Path,
    served: ServerProcess,
    llama_folder: Path,
    tmp_path: Path,
    bos: bool,
    arguments: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    hf = {"pretrained": llama_folder, "dtype": "float32", "max_length": MAX_LENGTH, "add_bos_token": bos}
    theirs = evaluate(tasks, tmp_path / "hf", "hf", hf)
    before = served.metrics()["trt_server_requests_total{OK}"]
    completions = {
        "base_url": f"{served.http}/v1/completions",
        "model": llama_folder.name,
        "max_length": MAX_LENGTH + 2,
        "max_retries": 1,
        **options,
    }
    if options["tokenizer_backend"] == "huggingface":
        completions |= {"tokenizer": llama_folder, "add_bos_token": bos}
    ours = evaluate(tasks, tmp_path / "ours", "local-completions", completions, arguments)
    assert served.metrics()["trt_server_requests_total{OK}"] > before
    for task in TASKS:
        for mine, expected in zip(ours.answers[task], theirs.answers[task], strict=True):
            assert flat_logprobs(mine) == pytest.approx(flat_logprobs(expected), abs=TOLERANCE)
            assert greedy_flags(mine) == greedy_flags(expected)
    assert ours.metrics.keys() == theirs.metrics.keys() == TASKS.keys()
    for task, metrics in theirs.metrics.items():
        assert metrics
        assert ours.metrics[task] == pytest.approx(metrics, rel=TOLERANCE)
    # Neither all nor none, or the flags would show little.
    flags = [flag for answer in ours.answers["local_next_words"] for flag in greedy_flags(answer)]
    assert 0 < sum(flags) < len(flags)


def flat_logprobs(answer: list[Any]) -> list[float]:
    """Of a document's requests: the sum of each."""
    return [float(each[0] if isinstance(each, list) else each) for each in answer]


def greedy_flags(answer: list[Any]) -> list[bool]:
    """Of a document's requests; rolling ones have none."""
    return [str(each[1]) == "True" for each in answer if isinstance(each, list)]
