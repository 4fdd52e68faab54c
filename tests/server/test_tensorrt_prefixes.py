"""Shared prefixes on TensorRT, as real processes on a fake device, in every generation of its API."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import reference_logprobs, write_checkpoint
from fake_gpu_machine import GENERATIONS, gpu_machine
from processes import ServerProcess
from score_requests import ids_prompt
from scoring.v1 import scoring_pb2 as pb

PREFIXES = {
    name: [(7 * i + start) % 500 for i in range(60)] for name, start in (("a", 0), ("b", 5), ("c", 11))
}
# 3 layers, keys and values, 2 heads of 16, fp32; a prefix of 60 tokens is padded to 64.
PREFIX_BYTES = 64 * 3 * 2 * 2 * 16 * 4


def prompt(prefix: str, tail: int, tokens: int = 60) -> pb.Prompt:
    message = ids_prompt([*PREFIXES[prefix][:tokens], *((11 * i + tail) % 500 for i in range(tail))])
    message.shared_prefix_tokens = tokens
    return message


def request(*prompts: pb.Prompt, reuse: bool = True) -> pb.ScoreRequest:
    return pb.ScoreRequest(prompts=prompts, allow_prefix_reuse=reuse)


def start(folder: Path, environment: dict[str, str], size: int, *arguments: str) -> ServerProcess:
    limits = ("--max-prompt-tokens", "250", "--max-batch-size", "4", "--prefix-cache-bytes", str(size))
    return ServerProcess("--model", str(folder), *limits, *arguments, environment=environment)


def assert_agrees(folder: Path, asked: pb.ScoreRequest, reply: pb.ScoreResponse, tolerance: float) -> None:
    for one, score in zip(asked.prompts, reply.scores, strict=True):
        expected = reference_logprobs(folder, list(one.token_ids.ids)).numpy()
        found = np.array(score.candidate_logprobs)
        np.testing.assert_allclose(found, expected[list(score.candidate_ids)], atol=tolerance, rtol=0)


def computed(reply: pb.ScoreResponse) -> list[int]:
    return [score.tokens.computed for score in reply.scores]


@pytest.mark.parametrize("version", GENERATIONS)
def test_the_reference_s_answers_in_fp16(llama_folder: Path, tmp_path: Path, version: str) -> None:
    asked = [
        request(prompt("a", 9), prompt("b", 30), ids_prompt(range(40)), prompt("a", 1)),
        request(prompt("b", 3)),
        request(prompt("a", 190)),
        request(prompt("a", 9), reuse=False),
    ]
    with start(llama_folder, gpu_machine(tmp_path, tensorrt=version), 2**20) as server:
        stub = server.wait_until_serving().stub()
        replies = [stub.Score(one, timeout=60) for one in asked]
        assert server.stop() == 0
    for one, reply in zip(asked, replies, strict=True):
        assert_agrees(llama_folder, one, reply, tolerance=0.1)
    assert [computed(reply) for reply in replies] == [[69, 90, 40, 1], [3], [190], [69]]
    # The largest of three batches: two prompts after prefix a. 16 - 9 and 16 - 1 tokens of it, 32 - 30 and
    # 40 - 40 of the others, and 4 of each prefix that was computed are padding.
    assert (replies[0].batch.prompts, replies[0].batch.padded_length) == (2, 16)
    assert replies[0].batch.padding_tokens == 7 + 15 + 2 + 0 + 4 + 4


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_fp32_to_rounding_however_little_is_kept(tmp_path: Path, family: str, kept: int) -> None:
    """Prefixes of many lengths through memory too small for all: blocks are evicted, and it is used again."""
    folder = write_checkpoint(tmp_path / family, family, tokenizer=False)
    size = {0: 100, 1: PREFIX_BYTES, 2: 2 * PREFIX_BYTES + 1000}[kept]
    asked = [
        request(*(prompt(name, 5 + number, tokens) for name in names))
        for number, (names, tokens) in enumerate(
            [("a", 60), ("ab", 40), ("abca", 60), ("c", 7), ("ccb", 8), ("b", 33), ("aa", 60), ("cba", 20)]
        )
    ]
    with start(folder, gpu_machine(tmp_path / "cache"), size, "--precision", "fp32") as server:
        stub = server.wait_until_serving().stub()
        replies = [stub.Score(one, timeout=60) for one in [*asked, *asked[::-1]]]
        metrics = server.metrics()
    for one, reply in zip([*asked, *asked[::-1]], replies, strict=True):
        assert_agrees(folder, one, reply, tolerance=1e-3)
    assert metrics.get("trt_server_prefix_cache_bytes{tensorrt}", 0) <= size
    logical = sum(score.tokens.logical for reply in replies for score in reply.scores)
    assert (sum(sum(computed(reply)) for reply in replies) < logical) == (kept > 0)


def test_many_at_once_after_several_prefixes(llama_folder: Path, tmp_path: Path) -> None:
    """Two batches are in flight while the prefixes they came from are put out by others."""
    asked = [request(prompt("abc"[number % 3], number + 1)) for number in range(60)]
    for number, one in enumerate(asked):
        one.id = str(number)
    machine = gpu_machine(tmp_path)
    with start(llama_folder, machine, PREFIX_BYTES + 500, "--precision", "fp32") as server:
        stub = server.wait_until_serving().stub()
        replies = {reply.id: reply.response for reply in stub.StreamScore(iter(asked), timeout=60)}
    for one in asked:
        assert_agrees(llama_folder, one, replies[one.id], tolerance=1e-3)


def test_nothing_is_kept_by_default(llama_folder: Path, tmp_path: Path) -> None:
    environment = gpu_machine(tmp_path)
    with ServerProcess("--model", str(llama_folder), environment=environment) as server:
        stub = server.wait_until_serving().stub()
        assert stub.GetModel(pb.GetModelRequest(), timeout=60).limits.prefix_cache_bytes == 0
        for _ in range(2):
            assert computed(stub.Score(request(prompt("a", 9)), timeout=60)) == [69]


def test_prefixes_that_do_not_fit_beside_the_weights_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    with start(llama_folder, gpu_machine(tmp_path, memory=6_000_000), 5_900_000) as server:
        assert server.wait() == 1
        assert "--prefix-cache-bytes" in server.lines[-1]
