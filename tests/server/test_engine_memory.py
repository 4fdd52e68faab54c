"""The memory that ONNX Runtime keeps from one batch to the next."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import psutil
from processes import ServerProcess
from scoring.v1 import scoring_pb2 as pb

PROMPTS, PREFIX_TOKENS, TOKENS = 8, 300, 2000
SECONDS = 60.0


def test_batches_of_every_kind_take_turns_in_the_same_memory(llama_folder: Path) -> None:
    """With and without a prefix, with and without all positions: what the first took serves the others."""
    rng = random.Random(5)
    prefix = _ids(rng, PREFIX_TOKENS)

    def continued() -> pb.Prompt:
        ids = pb.TokenIds(ids=[*prefix, *_ids(rng, TOKENS - PREFIX_TOKENS)])
        return pb.Prompt(
            token_ids=ids, shared_prefix_tokens=PREFIX_TOKENS, candidates=[pb.Candidate(token_id=1)]
        )

    def alone() -> pb.Prompt:
        return pb.Prompt(token_ids=pb.TokenIds(ids=_ids(rng, TOKENS)), candidates=[pb.Candidate(token_id=1)])

    def whole() -> pb.Prompt:
        return pb.Prompt(token_ids=pb.TokenIds(ids=_ids(rng, TOKENS)), all_tokens=True, top_tokens=20)

    arguments = ("--model", str(llama_folder), "--engine", "onnxruntime", "--prefix-cache-bytes", "8MiB")
    with ServerProcess(*arguments) as server:
        server.wait_until_serving()
        at_start = _memory(server)
        for _ in range(2):
            _ask(server, continued)
        after_the_first = _memory(server)
        for kind in (alone, whole, continued, whole):
            _ask(server, kind)
        at_the_end = _memory(server)
    assert at_the_end - after_the_first < (after_the_first - at_start) / 2


def _ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(512) for _ in range(count)]


def _ask(server: ServerProcess, prompt: Callable[[], pb.Prompt]) -> None:
    request = pb.ScoreRequest(id="r", prompts=[prompt() for _ in range(PROMPTS)], allow_prefix_reuse=True)
    assert len(server.stub().Score(request, timeout=SECONDS).scores) == PROMPTS


def _memory(server: ServerProcess) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)
