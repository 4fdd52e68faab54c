"""trt-server and mmlu-client against transformers on PyTorch: the same questions, checkpoint and threads.

    python -m bench.cpu --data FOLDER [--subjects a,b] [--limit 40] [--rounds 3] [--threads 2] [--bs 1]

Each round scores the same questions three times, one after the other: through our pair, through our pair
with shared prefixes computed once, and through PyTorch. A machine that slows down slows all. Ours counts
everything from the first prompt built to the last reply received, a prefix's first computation too; PyTorch's
counts the forwards alone, with the token ids at hand. --rounds 0 leaves PyTorch out and makes one round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from mmlu_client.prompts.prompt import Prompt
from transformers import AutoModelForCausalLM, __version__
from trt_common.command_line.streams import take_any_text
from trt_server.model.source import resolve_model

from bench.asked_questions import built_prompts, question_flags, read_flags, run_client
from tools.server_process import ServerProcess


@dataclass(frozen=True)
class Round:
    """The questions per second of one round.

    Attributes:
        reusing: Ours with shared prefixes computed once.
        pytorch: PyTorch's; None where it was left out.
        tokens: Logical tokens for each that was computed with reuse.
        difference: The largest difference between our log-probabilities without and with reuse.
        same_predictions: The number of questions on which both chose the same letter.
    """

    ours: float
    reusing: float
    pytorch: float | None
    whole_over_core: float
    tokens: float
    difference: float
    same_predictions: int


def main() -> None:
    """Run the rounds and print the figures."""
    take_any_text()
    options = read_flags(question_flags(__doc__, rounds=3))
    folder = resolve_model(options.model, "fp32").folder
    model = _load_pytorch(folder, options.threads)
    positions, vocabulary_size = model.config.max_position_embeddings, model.config.vocab_size
    prompts = built_prompts(options, positions, vocabulary_size)
    arguments = ("--model", options.model, "--threads", str(options.threads))
    with ServerProcess(*arguments) as server:
        compared = model if options.rounds else None
        rounds = [_round(options, server, compared, prompts) for _ in range(options.rounds or 1)]
        resident = _peak_bytes(server.process.pid)
    weights = sum(parameter.numel() * 4 for parameter in model.parameters())
    _print(options, rounds, len(prompts), sum(len(p.token_ids) for p in prompts), weights, resident)


def _load_pytorch(folder: Path, threads: int) -> Any:
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()


def _round(
    options: argparse.Namespace, server: ServerProcess, model: Any | None, prompts: list[Prompt]
) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        summary, whole = run_client(options, server.address, Path(folder) / "whole")
        reused, again = run_client(options, server.address, Path(folder) / "reused", "--reuse-prefix")
    predictions = [[record["predicted"] for record in records] for records in (whole, again)]
    seconds = None
    if model is not None:
        expected, seconds = _pytorch(model, prompts, options.bs)
        predictions.append(expected)
    return Round(
        ours=summary["answered"] / summary["whole_seconds"],
        reusing=reused["answered"] / reused["whole_seconds"],
        pytorch=seconds and len(prompts) / seconds,
        whole_over_core=summary["whole_over_core"],
        tokens=reused["logical_tokens"] / reused["computed_tokens"],
        difference=max(
            abs(one["logprobs"][letter] - other["logprobs"][letter])
            for one, other in zip(whole, again, strict=True)
            for letter in "ABCD"
        ),
        same_predictions=sum(len(set(letters)) == 1 for letters in zip(*predictions, strict=True)),
    )


def _pytorch(model: Any, prompts: list[Prompt], batch_size: int) -> tuple[list[str], float]:
    """Return the predicted letters and the seconds of the forwards; prompts are padded on the right."""
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
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
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
        "| round | ours | with prefix reuse | PyTorch | ours / PyTorch | reuse / ours | tokens / computed "
        "| whole/core | largest difference | same |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for number, r in enumerate(rounds, 1):
        print(
            f"| {number} | {r.ours:.3f} | {r.reusing:.3f} | {_or_slash(r.pytorch, '.3f')} "
            f"| {_or_slash(r.pytorch and r.ours / r.pytorch, '.2f')} | {r.reusing / r.ours:.2f} "
            f"| {r.tokens:.2f} | {r.whole_over_core:.4f} | {r.difference:.1e} "
            f"| {r.same_predictions}/{questions} |"
        )
    ratio = statistics.median(r.reusing / r.ours for r in rounds)
    print(f"\nmedian reuse / ours {ratio:.2f}, ", end="")
    print(f"median whole/core {statistics.median(r.whole_over_core for r in rounds):.4f}")
    bound = (1.2 * weights + 300e6) / 1e6
    print(f"server memory at its peak, shared prefixes included, {resident / 1e6:.0f} MB; ", end="")
    print(f"1.2 x fp32 weights + 300 MB = {bound:.0f} MB")


def _or_slash(value: float | None, form: str) -> str:
    return "/" if value is None else format(value, form)


if __name__ == "__main__":
    main()
