"""The questions that the benchmarks of a CPU ask: flags, prompts, and a run of the client."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mmlu_client.data.benchmark import load_benchmark
from mmlu_client.prompts.builder import PromptBuilder
from mmlu_client.prompts.format import FORMATS
from mmlu_client.prompts.limit import prompt_limit
from mmlu_client.prompts.prompt import Prompt
from mmlu_client.prompts.tokenizer import named_tokenizer
from trt_common.installed_program import program


def question_flags(about: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser of the model, the questions and how they are asked.

    Args:
        about: The description.
        rounds: How many rounds are run where no other number is given.
    """
    parse = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", default="demo")
    parse.add_argument("--model", default="dummy:llama-100m", help="dummy:<geometry> or a folder")
    parse.add_argument("--tokenizer", help="the model's own by default; the demo's for dummy:<geometry>")
    parse.add_argument("--subjects", help="names with commas between; all by default")
    parse.add_argument("--limit", type=int, help="questions a subject; all by default")
    parse.add_argument("--rounds", type=int, default=rounds)
    parse.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parse.add_argument("--bs", type=int, default=1)
    return parse


def read_flags(parse: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and choose the tokenizer where none is named."""
    options = parse.parse_args()
    options.tokenizer = options.tokenizer or ("demo" if options.model.startswith("dummy:") else options.model)
    return options


def built_prompts(options: argparse.Namespace, positions: int, vocabulary_size: int) -> list[Prompt]:
    """Return the prompts of all questions that fit.

    Args:
        options: Those of `question_flags`.
        positions: Tokens of the longest prompt.
        vocabulary_size: The model's.
    """
    benchmark = load_benchmark(options.data)
    subjects = benchmark.pick_subjects(options.subjects and options.subjects.split(","))
    style = FORMATS["hendrycks"]
    limit = prompt_limit(style, None, positions).tokens
    shots = benchmark.shots(subjects, 5)
    builder = PromptBuilder(named_tokenizer(options.tokenizer), style, shots, limit, vocabulary_size)
    built = builder.build(benchmark.questions(subjects, options.limit))
    return [prompt for prompt in built if isinstance(prompt, Prompt)]


def run_client(
    options: argparse.Namespace, address: str, output: Path, *flags: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ask a server all questions through mmlu-client.

    Args:
        options: Those of `question_flags`.
        address: Of the server that is asked.
        output: The run's folder.
        flags: Further ones of the client.

    Returns:
        The summary, and the records of the scored questions in the benchmark's order.
    """
    command = [program("mmlu-client"), "--url", address, "--bs", str(options.bs), *flags]
    command += ["--data", options.data, "--tokenizer", options.tokenizer, "--output", str(output)]
    command += [] if options.subjects is None else ["--subjects", options.subjects]
    command += [] if options.limit is None else ["--limit", str(options.limit)]
    # The exit status is 1 where a question is too long for the model, which is reported as failed.
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode > 1 or not (output / "summary.json").exists():
        sys.exit(f"mmlu-client failed: {done.stderr.strip().splitlines()[-1]}")
    lines = (output / "records.jsonl").read_text(encoding="utf-8").splitlines()
    scored = [record for record in map(json.loads, lines) if record["logprobs"] is not None]
    scored.sort(key=lambda record: (record["subject"], record["index"]))
    return json.loads((output / "summary.json").read_text(encoding="utf-8")), scored
