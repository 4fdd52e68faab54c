"""Continuations, a prompt's own tokens and the most likely tokens, in every engine, against transformers.

Rows hold a prompt and several continuations; transformers gets each text unpacked, as a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import FAMILIES, VOCABULARY_SIZE, reference_model, write_checkpoint
from continued_prompts import ContinuedPrompt, PackedBatch, Tokens, packed
from engines.tensorrt_process import run_on_tensorrt
from fake_gpu_machine import GENERATIONS, gpu_machine
from numpy.typing import NDArray
from trt_server.engines import head_slices
from trt_server.engines.engine import EngineLimits, Outcome
from trt_server.engines.onnxruntime import OnnxRuntimeEngine
from trt_server.engines.openvino import OpenVinoEngine
from trt_server.engines.torch import TorchEngine
from trt_server.model.files.checkpoint import open_checkpoint

# Design: 1e-3. In fp32 the two differ by rounding alone.
TOLERANCE = 1e-4
MAX_TOKENS, MAX_BATCH = 200, 4
PREFIX_BYTES = 4_000_000
# What every prompt begins with. Mistral's window is shorter than the prompts.
SHARED = 23

_random = np.random.default_rng(5)


def tokens(count: int) -> Tokens:
    return tuple(_random.integers(0, VOCABULARY_SIZE, count).tolist())


_shared = tokens(SHARED)
# Ragged: several continuations of several lengths, one, none; own tokens of some; candidates of others.
PROMPTS = (
    ContinuedPrompt(_shared + tokens(37), (tokens(3), tokens(1), tokens(17), tokens(8)), own_tokens=5),
    ContinuedPrompt(_shared + tokens(1), (tokens(64),), candidates=(3, 500, 3)),
    ContinuedPrompt(_shared + tokens(80), candidates=(7,)),
    ContinuedPrompt(_shared + tokens(12), (tokens(2),) * 2, own_tokens=10**6),
)
# The shortest prompt, and one whose own tokens are all asked for, without a prefix.
SHORTEST = (ContinuedPrompt(tokens(1), (tokens(1), tokens(2))), ContinuedPrompt(tokens(30), own_tokens=30))


def questions(prefix_tokens: int, multiple: int = 1) -> list[PackedBatch]:
    """All prompts together, each alone, with and without the most likely tokens."""
    sets: list[tuple[Sequence[ContinuedPrompt], int]] = [
        (PROMPTS, 5),
        (PROMPTS[::-1], 0),
        *(([prompt], 20) for prompt in PROMPTS),
    ]
    together = [packed(prompts, prefix_tokens, count, multiple) for prompts, count in sets]
    return [*together, packed(SHORTEST, 0, 1, multiple)]


def logprobs_after(folder: Path, contexts: Sequence[Tokens]) -> NDArray[np.float32]:
    """Of the token after each context, float32 [contexts, vocabulary]; the longest ones are run."""
    model = reference_model(folder)
    known: dict[Tokens, torch.Tensor] = {}
    for context in sorted(contexts, key=len, reverse=True):
        if context not in known:
            rows = model(torch.tensor([context])).logits[0].log_softmax(-1)
            known |= {context[: end + 1]: row for end, row in enumerate(rows)}
    logprobs: NDArray[np.float32] = torch.stack([known[context] for context in contexts]).numpy()
    return logprobs


def assert_agree(folder: Path, asked: Sequence[PackedBatch], outcomes: Sequence[Outcome | str]) -> None:
    for one, outcome in zip(asked, outcomes, strict=True):
        assert isinstance(outcome, Outcome)
        one.assert_agrees(outcome.scores, logprobs_after(folder, one.contexts), TOLERANCE)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRT_SERVER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(request.param), request.param, tokenizer=False)


def onnxruntime(folder: Path, prefix_bytes: int) -> OnnxRuntimeEngine:
    limits = EngineLimits(MAX_TOKENS, MAX_BATCH, prefix_bytes)
    return OnnxRuntimeEngine(open_checkpoint(folder), limits, threads=1, peak_flops=1e12)


def openvino(folder: Path, prefix_bytes: int) -> OpenVinoEngine:
    limits = EngineLimits(MAX_TOKENS, MAX_BATCH, prefix_bytes)
    return OpenVinoEngine(open_checkpoint(folder), limits, "fp32", threads=1, peak_flops=1e12)


def transformers(folder: Path, _: int) -> TorchEngine:
    return TorchEngine(
        open_checkpoint(folder), EngineLimits(MAX_TOKENS, MAX_BATCH), "fp32", threads=1, peak_flops=1e12
    )


@pytest.fixture(params=[None, 7], ids=["the whole head", "slices of the head"])
def head(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head runs on all places at once, or on fewer than are asked for."""
    if request.param is not None:
        size = request.param * VOCABULARY_SIZE * 4
        monkeypatch.setattr(head_slices, "LOGITS_BYTES", size)


@pytest.mark.usefixtures("head")
@pytest.mark.parametrize(
    ("engine_of", "prefix_tokens"),
    [(onnxruntime, 0), (onnxruntime, SHARED), (openvino, 0), (openvino, SHARED), (transformers, 0)],
)
def test_continuations_agree(folder: Path, engine_of: Callable[[Path, int], Any], prefix_tokens: int) -> None:
    engine = engine_of(folder, PREFIX_BYTES if prefix_tokens else 0)
    asked = questions(prefix_tokens)
    outcomes = [engine.submit(one.batch).wait() for one in asked]
    assert_agree(folder, asked, outcomes)
    if prefix_tokens:
        reused = [outcome.prefix_reused for outcome in outcomes]
        assert reused == [False, *(True for _ in asked[1:-1]), False]


@pytest.mark.parametrize("prefix_tokens", [0, SHARED])
def test_continuations_agree_in_tensorrt(folder: Path, tmp_path: Path, prefix_tokens: int) -> None:
    limits = EngineLimits(MAX_TOKENS, MAX_BATCH, PREFIX_BYTES if prefix_tokens else 0)
    asked = questions(prefix_tokens, multiple=8)
    machine = gpu_machine(tmp_path / "plans", tensorrt="10.9.0")
    outcomes = run_on_tensorrt(folder, limits, [one.batch for one in asked], machine)
    assert_agree(folder, asked, outcomes)
    assert {outcome.prefix_reused for outcome in outcomes if isinstance(outcome, Outcome)} == (
        {False, True} if prefix_tokens else {False}
    )


@pytest.mark.parametrize("version", GENERATIONS)
def test_every_generation_of_tensorrt_takes_as_many_positions_as_it_says_and_no_more(
    llama_folder: Path, tmp_path: Path, version: str
) -> None:
    """Half of them of each prompt; and all candidates and continuations of a prompt besides."""
    limits = EngineLimits(MAX_TOKENS, 2, max_scored_positions=20)
    prompt = ContinuedPrompt(tokens(11), tuple(tokens(1) for _ in range(64)), own_tokens=9)
    most = packed([prompt, prompt], 0, 20, multiple=8)
    beyond = packed([prompt, ContinuedPrompt(prompt.tokens, own_tokens=10)], 0, 0, multiple=8)
    assert (len(most.batch.scored), len(beyond.batch.scored)) == (20, 21)
    outcome, refusal = run_on_tensorrt(
        llama_folder, limits, [most.batch, beyond.batch], gpu_machine(tmp_path / "plans", tensorrt=version)
    )
    assert_agree(llama_folder, [most], [outcome])
    assert isinstance(refusal, str)
    assert "with 21 scored positions" in refusal
    assert "than the 2, 200, 20 and 148 that the engine takes: send fewer" in refusal
