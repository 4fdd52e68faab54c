"""The CPU's engines and precisions, and vLLM on its CPU backend, on the same questions.

    python -m bench.cpu_engines --data FOLDER [--model dummy:llama-100m] [--limit 1] [--subjects a,b] [--bs 1]
        [--rounds 5] [--threads 2] [--in-flight 1] [--reuse] [--vllm FOLDER]

All servers are up at once, and those that are not asked stand idle. Each round asks every server the same
prompts, one after the other, in an order that turns by one from round to round; a ratio is the median of the
rounds' own. Tokens a second count logical tokens over the whole path: ours from the first prompt built to the
last reply received, vLLM's from the first request sent to the last reply read, with the token ids at hand.
With bs N, a request has N prompts, ours and vLLM's; --in-flight is how many requests there are at a time.

--reuse lets every server take what prompts begin with in common from a store. Each has the shots of every
subject in it before a round is timed: ours keeps nothing but them, and vLLM's prefix caching, which keeps
whole prompts, gets a salt of its own in each round, under which the shots alone were asked before.
--vllm names a virtual environment that has vLLM's CPU backend; without it those columns are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmlu_client.prompts.prompt import Prompt
from trt_common.command_line.streams import take_any_text
from trt_server.model.files.checkpoint import open_checkpoint
from trt_server.model.source import resolve_model

from bench.asked_questions import built_prompts, question_flags, read_flags, run_client
from bench.vllm_server import MODEL, VLLM_SECONDS, prefix_caching, vllm_server
from tools.server_process import ServerProcess

# PyTorch's engine is transformers, behind the same server.
OURS = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), ("torch", "fp32"))
VLLM = {"fp32": "float32", "bf16": "bfloat16"}
# Tokens of the longest prompt, for every server.
POSITIONS = 2048


@dataclass(frozen=True)
class Asked:
    """One server's answers in one round.

    Attributes:
        seconds: Of the whole path.
        whole_over_core: None where the server does not tell core time.
        logprobs: float [questions, 4].
    """

    seconds: float
    whole_over_core: float | None
    logprobs: np.ndarray


class Way(Protocol):
    """Asks one server every question."""

    def __call__(self) -> Asked:
        """Return what came of it."""
        ...


def main() -> None:
    """Run the rounds and print the table."""
    take_any_text()
    parse = question_flags(__doc__, rounds=5)
    parse.add_argument("--reuse", action="store_true")
    parse.add_argument("--in-flight", type=int, default=1)
    parse.add_argument("--vllm", type=Path, metavar="FOLDER")
    options = read_flags(parse)
    folder = resolve_model(options.model, "fp32").folder
    prompts = built_prompts(options, POSITIONS, open_checkpoint(folder).geometry.vocabulary_size)
    with ExitStack() as stack:
        ways = dict(_ways(options, folder, prompts, stack))
        # The first time each is asked it is warm no more than its server made it.
        rounds = [_round(ways, number) for number in range(options.rounds + 1)][1:]
        memory = {name: _memory(way) for name, way in ways.items()}
    _print(options, prompts, rounds, memory)


def _ways(
    options: argparse.Namespace, folder: Path, prompts: Sequence[Prompt], stack: ExitStack
) -> Iterator[tuple[str, Way]]:
    for engine, precision in OURS:
        arguments = ("--engine", engine, "--precision", precision, "--threads", str(options.threads))
        server = stack.enter_context(ServerProcess("--model", options.model, *arguments))
        yield f"{engine} {precision}", partial(_ask_ours, options, server)
    if options.vllm is None:
        print("vLLM is left out: --vllm names an environment that has it")
        return
    for precision, dtype in VLLM.items():
        flags = ["--dtype", dtype, "--max-model-len", str(POSITIONS), "--skip-tokenizer-init"]
        flags += ["--max-logprobs", "20", *prefix_caching(options.reuse)]
        address = stack.enter_context(vllm_server(options.vllm, folder, options.threads, *flags))
        yield f"vLLM {precision}", partial(_ask_vllm, options, address, prompts)


def _shots(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Return the token ids that all prompts of a subject begin with, of each subject."""
    by_subject: dict[str, list[Sequence[int]]] = {}
    for prompt in prompts:
        by_subject.setdefault(prompt.item.subject, []).append(list(map(int, prompt.token_ids)))
    return [_common(each) for each in by_subject.values()]


def _common(texts: Sequence[Sequence[int]]) -> list[int]:
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False))
    return [tokens[0] for tokens in alike]


def _round(ways: dict[str, Way], number: int) -> dict[str, Asked]:
    names = list(ways)
    turned = names[number % len(names) :] + names[: number % len(names)]
    return {name: ways[name]() for name in turned}


def _ask_ours(options: argparse.Namespace, server: ServerProcess) -> Asked:
    flags = ["--concurrency", str(options.in_flight), *(["--reuse-prefix"] if options.reuse else [])]
    with tempfile.TemporaryDirectory() as folder:
        summary, records = run_client(options, server.address, Path(folder), *flags)
    logprobs = np.array([list(record["logprobs"].values()) for record in records])
    return Asked(summary["whole_seconds"], summary["whole_over_core"], logprobs)


def _ask_vllm(options: argparse.Namespace, address: str, prompts: Sequence[Prompt]) -> Asked:
    batches = [
        [list(map(int, prompt.token_ids)) for prompt in prompts[first : first + options.bs]]
        for first in range(0, len(prompts), options.bs)
    ]
    letters = list(map(int, prompts[0].candidate_ids))
    salt = secrets.token_hex(8) if options.reuse else None
    ask = partial(_logprobs, address, letters, salt)
    for shots in _shots(prompts) if options.reuse else []:
        ask([shots])
    start = time.perf_counter()
    with ThreadPoolExecutor(options.in_flight) as pool:
        found = [logprobs for reply in pool.map(ask, batches) for logprobs in reply]
    return Asked(time.perf_counter() - start, None, np.array(found))


def _logprobs(
    address: str, letters: Sequence[int], salt: str | None, batch: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Ask vLLM for the candidates' log-probabilities of each prompt.

    Args:
        address: Of the server.
        letters: The candidates' token ids.
        salt: What was kept under another is not taken; None: no salt.
        batch: The prompts' token ids.
    """
    body = {
        **({} if salt is None else {"cache_salt": salt}),
        "model": MODEL,
        "prompt": list(batch),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
        "logprob_token_ids": letters,
        "return_tokens_as_token_ids": True,
    }
    request = urllib.request.Request(
        f"{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=VLLM_SECONDS) as reply:
        choices: list[dict[str, Any]] = json.load(reply)["choices"]
    found = []
    for choice in sorted(choices, key=lambda each: each["index"]):
        top = choice["logprobs"]["top_logprobs"][0]
        found.append([top[f"token_id:{letter}"] for letter in letters])
    return found


def _memory(way: Any) -> float | None:
    """Return the bytes that one of our servers holds now; None for vLLM, which is several processes."""
    server = next((each for each in way.args if isinstance(each, ServerProcess)), None)
    if server is None:
        return None
    lines = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) * 1024


def _print(
    options: argparse.Namespace,
    prompts: Sequence[Prompt],
    rounds: Sequence[dict[str, Asked]],
    memory: dict[str, float | None],
) -> None:
    tokens = sum(len(prompt.token_ids) for prompt in prompts)
    print(
        f"\n{options.model}, {len(prompts)} questions of {options.data}, {tokens / len(prompts):.0f} tokens a"
    )
    print(
        f"prompt, bs {options.bs}, {options.in_flight} in flight, {options.threads} threads, {len(rounds)} "
        f"rounds, reuse {options.reuse}\n"
    )
    base = "onnxruntime fp32"
    expected = rounds[0][base].logprobs
    print(
        "| | tokens/s, median (least to most) | to onnxruntime | to vLLM, same precision | whole/core | "
        "largest difference | same letters | MB held |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in memory:
        rates = sorted(tokens / each[name].seconds for each in rounds)
        peer = f"vLLM {name.rpartition(' ')[2]}"
        shares = [each[name].whole_over_core for each in rounds]
        found = rounds[0][name].logprobs
        cells = [
            f"{statistics.median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})",
            _ratio(rounds, base, name),
            _ratio(rounds, peer, name) if peer in memory else "/",
            "/" if shares[0] is None else f"{statistics.median(filter(None, shares)):.4f}",
            f"{np.abs(found - expected).max():.1e}",
            f"{int((found.argmax(1) == expected.argmax(1)).sum())}/{len(prompts)}",
            "/" if memory[name] is None else f"{(memory[name] or 0) / 1e6:,.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _ratio(rounds: Sequence[dict[str, Asked]], base: str, name: str) -> str:
    return f"{statistics.median(each[base].seconds / each[name].seconds for each in rounds):.2f}"


if __name__ == "__main__":
    main()
