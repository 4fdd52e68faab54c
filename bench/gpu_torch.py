"""One measurement of bench.gpu: PyTorch, in a process of its own, which needs torch and transformers alone.

    python gpu_torch.py PROMPTS.json CHECKPOINT --mode rate|eager|compiled --bs 1 [4 …]

Prints lines of JSON: the rate of fp16 matrix products, or a line for each batch size, with its answers: each
prompt's candidates' log-probabilities.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaForCausalLM

_DEVICE = "cuda"
_SIZE = 8192
_RUNS = 20
# The same as in our engine.
_LENGTH_MULTIPLE = 8


def main() -> None:
    """Measure and print lines of JSON."""
    parse = argparse.ArgumentParser(description=__doc__)
    parse.add_argument("--mode", choices=("rate", "eager", "compiled"), required=True)
    parse.add_argument("--bs", type=int, nargs="+", required=True)
    parse.add_argument("prompts", type=Path)
    parse.add_argument("folder", type=Path)
    options = parse.parse_args()
    version = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    if options.mode == "rate":
        print(json.dumps({"rate": product_rate(), "version": version}), flush=True)
        return
    # Read before CUDA starts, so that its context's memory counts as it does in ours.
    before = memory_used()
    model = load(options.folder)
    decoder = torch.compile(model.model, dynamic=True) if options.mode == "compiled" else model.model
    prompts = json.loads(options.prompts.read_text(encoding="utf-8"))
    for bs in options.bs:
        measure(model, decoder, prompts, bs)
        core, whole, answers = measure(model, decoder, prompts, bs)
        figures = {
            "name": f"PyTorch {options.mode}",
            "version": version,
            "bs": bs,
            "core_seconds": core,
            "whole_seconds": whole,
            "memory_bytes": memory_used() - before,
            "answers": answers,
        }
        print(json.dumps(figures), flush=True)


def memory_used() -> int:
    """Return the bytes that all programs use on the first device."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout) * 2**20


def product_rate() -> float:
    """Return the FLOP/s of the fastest of several products of two square fp16 matrices."""
    left, right = (torch.randn(_SIZE, _SIZE, dtype=torch.float16, device=_DEVICE) for _ in range(2))
    out = torch.empty_like(left)
    torch.mm(left, right, out=out)
    best = min(timed(lambda: torch.mm(left, right, out=out)) for _ in range(_RUNS))
    return 2 * _SIZE**3 / best


def timed(work: Any) -> float:
    """Return the seconds that the work takes on the device."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1e3


def load(folder: Path) -> Any:
    """Load the checkpoint of a folder in fp16 onto the device."""
    # transformers has no class for Aquila; its tensors are Llama's.
    family = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    loader = LlamaForCausalLM if family == "aquila" else AutoModelForCausalLM
    model = loader.from_pretrained(folder, torch_dtype=torch.float16, attn_implementation="sdpa")
    return model.to(_DEVICE).eval().requires_grad_(False)


def measure(
    model: Any, decoder: Any, prompts: list[dict[str, list[int]]], bs: int
) -> tuple[float, float, list[list[float]]]:
    """Return the seconds of core and whole time of all prompts, and their answers.

    The head runs at the last position only, as in our engine.
    """
    core, found, start = 0.0, [], time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(prompts), bs):
            batch = Batch(prompts[first : first + bs])
            core += timed(lambda batch=batch: found.append(batch.score(model, decoder)))
        answers = [row for logprobs in found for row in logprobs.tolist()]
    return core, time.perf_counter() - start, answers


class Batch:
    """Prompts on the device, padded on the right."""

    def __init__(self, prompts: list[dict[str, list[int]]]) -> None:
        lengths = [len(prompt["ids"]) for prompt in prompts]
        longest = -(-max(lengths) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt["ids"])] = torch.tensor(prompt["ids"])
        self._ids = ids.to(_DEVICE)
        self._rows = torch.arange(len(prompts), device=_DEVICE)
        self._last = torch.tensor(lengths, device=_DEVICE) - 1
        self._candidates = torch.tensor([prompt["candidates"] for prompt in prompts], device=_DEVICE)

    def score(self, model: Any, decoder: Any) -> torch.Tensor:
        """Return the candidates' log-probabilities, float32 [prompts, candidates].

        The most probable token is computed too, as in our engine.
        """
        # No mask: padding is to the right of the scored token, and causal attention never looks there.
        hidden = decoder(input_ids=self._ids, use_cache=False).last_hidden_state
        logprobs = model.lm_head(hidden[self._rows, self._last]).float().log_softmax(-1)
        logprobs.max(-1)
        return logprobs.gather(1, self._candidates)


if __name__ == "__main__":
    main()
