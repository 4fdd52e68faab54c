"""trt-server and mmlu-client against transformers on PyTorch: the same questions, checkpoint and threads.

    python -m bench.cpu --data FOLDER [--questions 40] [--rounds 3] [--threads 2] [--bs 1]

Each round scores the same questions through both, one after the other, and gives one ratio of questions a
second; a machine that slows down slows both. Ours counts everything from the first prompt built to the last
reply received; PyTorch's counts the forwards alone, with the token ids at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from mmlu_client.dataset import load_benchmark
from mmlu_client.prompt_format import FORMATS
from mmlu_client.prompts import Prompt, PromptBuilder
from mmlu_client.tokenizer import named_tokenizer
from transformers import AutoModelForCausalLM, __version__
from trt_server.model.source import resolve_model

from tools.server_process import ServerProcess, program

TOKENIZER = resolve_model("demo", "fp32").folder


@dataclass(frozen=True)
class Round:
    """Questions a second; `reusing` with shared prefixes computed once."""

    ours: float
    reusing: float
    pytorch: float
    whole_over_core: float
    same_predictions: int

    @property
    def ratio(self) -> float:
        return self.ours / self.pytorch


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", default="demo")
    parse.add_argument("--model", default="dummy:llama-100m", help="dummy:<geometry> or a folder")
    parse.add_argument("--tokenizer", default=str(TOKENIZER), help="any whose ids the model knows")
    parse.add_argument("--questions", type=int, default=40)
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parse.add_argument("--bs", type=int, default=1)
    options = parse.parse_args()

    folder = resolve_model(options.model, "fp32").folder
    model = _load_pytorch(folder, options.threads)
    subjects, prompts = _prompts(options, model.config)
    arguments = ("--model", options.model, "--threads", str(options.threads))
    with ServerProcess(*arguments) as server:
        rounds = [_round(options, server, subjects, model, prompts) for _ in range(options.rounds)]
        resident = _peak_bytes(server.process.pid)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    _print(options, rounds, len(prompts), sum(len(p.token_ids) for p in prompts), weights, resident)


def _load_pytorch(folder: Path, threads: int) -> Any:
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()


def _prompts(options: argparse.Namespace, config: Any) -> tuple[str, list[Prompt]]:
    """One question of as many subjects as there are to be questions, or more of each."""
    benchmark = load_benchmark(options.data)
    subjects = benchmark.pick_subjects(None)[: options.questions]
    each = max(1, options.questions // len(subjects))
    builder = PromptBuilder(
        named_tokenizer(options.tokenizer),
        FORMATS["hendrycks"],
        benchmark.shots(subjects, 5),
        config.max_position_embeddings,
        config.vocab_size,
    )
    prompts = [p for p in builder.build(benchmark.questions(subjects, each)) if isinstance(p, Prompt)]
    options.limit = each
    return ",".join(subjects), prompts


def _round(
    options: argparse.Namespace, server: ServerProcess, subjects: str, model: Any, prompts: list[Prompt]
) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        summary, predicted = _ours(options, server, subjects, Path(folder) / "whole")
        reused, again = _ours(options, server, subjects, Path(folder) / "reused", "--reuse-prefix")
    expected, seconds = _pytorch(model, prompts, options.bs)
    return Round(
        ours=summary["answered"] / summary["whole_seconds"],
        reusing=reused["answered"] / reused["whole_seconds"],
        pytorch=len(prompts) / seconds,
        whole_over_core=summary["whole_over_core"],
        same_predictions=sum(a == b == c for a, b, c in zip(predicted, again, expected, strict=True)),
    )


def _ours(
    options: argparse.Namespace, server: ServerProcess, subjects: str, output: Path, *flags: str
) -> tuple[dict[str, Any], list[str]]:
    command = [program("mmlu-client"), "--url", server.address, "--bs", str(options.bs), *flags]
    command += ["--data", options.data, "--tokenizer", options.tokenizer, "--subjects", subjects]
    command += ["--limit", str(options.limit), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = [json.loads(line) for line in (output / "records.jsonl").read_text().splitlines()]
    records.sort(key=lambda record: (record["subject"], record["index"]))
    return json.loads((output / "summary.json").read_text()), [r["predicted"] for r in records]


def _pytorch(model: Any, prompts: list[Prompt], batch_size: int) -> tuple[list[str], float]:
    """Predicted letters, and seconds of the forwards; prompts of a batch are padded on the right."""
    with torch.inference_mode():
        return _forward_all(model, prompts, batch_size)


def _forward_all(model: Any, prompts: list[Prompt], batch_size: int) -> tuple[list[str], float]:
    predicted: list[str] = []
    start = time.perf_counter()
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        lengths = torch.tensor([len(prompt.token_ids) for prompt in batch])
        ids = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        for row, prompt in enumerate(batch):
            ids[row, : len(prompt.token_ids)] = torch.tensor(prompt.token_ids)
        hidden = model.model(ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[torch.arange(len(batch)), lengths - 1])
        for row, prompt in enumerate(batch):
            predicted.append("ABCD"[int(logits[row, list(prompt.candidate_ids)].argmax())])
    return predicted, time.perf_counter() - start


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)


def _print(
    options: argparse.Namespace, rounds: list[Round], questions: int, tokens: int, weights: int, resident: int
) -> None:
    mean = tokens / questions
    print(f"\n{options.model}, {questions} questions of {options.data}, {mean:.0f} tokens a prompt,")
    versions = f"PyTorch {torch.__version__}, transformers {__version__}"
    print(f"bs {options.bs}, {options.threads} threads, {versions}\n")
    print("Questions a second, ours from the first prompt built to the last reply:\n")
    print(
        "| round | ours | with prefix reuse | PyTorch | ours / PyTorch | reuse / ours | whole/core | same |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for number, r in enumerate(rounds, 1):
        print(
            f"| {number} | {r.ours:.3f} | {r.reusing:.3f} | {r.pytorch:.3f} | {r.ratio:.2f} "
            f"| {r.reusing / r.ours:.2f} | {r.whole_over_core:.4f} "
            f"| {r.same_predictions}/{questions} |"
        )
    print(f"\nmedian ratio {statistics.median(r.ratio for r in rounds):.2f}, ", end="")
    print(f"median whole/core {statistics.median(r.whole_over_core for r in rounds):.4f}")
    bound = 1.2 * weights + 300e6
    bound = (1.2 * weights + 300e6) / 1e6
    print(f"server memory at its peak {resident / 1e6:.0f} MB; 1.2 x fp32 weights + 300 MB = {bound:.0f} MB")


if __name__ == "__main__":
    main()
