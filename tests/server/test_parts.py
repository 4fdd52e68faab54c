"""Requests that are larger than a batch may be: the same answers, in parts that let others in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from holding_machine import ENGINE_DEPTH, SECONDS, HoldingMachine, ask_in_order, stub_of_its_own
from processes import ServerProcess
from score_requests import ids_prompt, ids_request, request
from scoring.v1 import scoring_pb2 as pb
from trt_server.scheduling.batching import Batching
from waiting import wait_until

TOLERANCE = 1e-4


def ids(length: int, seed: int) -> list[int]:
    return [(7 * seed + 3 * number) % 500 for number in range(length)]


def all_kinds() -> pb.ScoreRequest:
    """Prompts of many lengths with all that can be asked of them, and one with many continuations."""
    prompts = [ids_prompt(ids(length, length)) for length in (40, 7, 90, 33, 61, 12)]
    prompts[1].all_tokens = True
    prompts[2].top_tokens = 5
    prompts[3].last_tokens = 4
    for number in range(25):
        prompts[4].continuations.add(token_ids=pb.TokenIds(ids=ids(1 + number % 9, number)))
    prompts[4].last_tokens = 3
    prompts[5].shared_prefix_tokens = prompts[0].shared_prefix_tokens = 6
    return pb.ScoreRequest(id="all", prompts=prompts, allow_prefix_reuse=True)


def assert_same(ours: pb.ScoreResponse, theirs: pb.ScoreResponse) -> None:
    assert len(ours.scores) == len(theirs.scores)
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        assert list(one.candidate_ids) == list(other.candidate_ids)
        np.testing.assert_allclose(one.candidate_logprobs, other.candidate_logprobs, atol=TOLERANCE)
        assert one.top_token_id == other.top_token_id
        assert list(one.top_token_ids) == list(other.top_token_ids)
        np.testing.assert_allclose(one.top_logprobs, other.top_logprobs, atol=TOLERANCE)
        assert list(one.own_tokens.token_ids) == list(other.own_tokens.token_ids)
        np.testing.assert_allclose(one.own_tokens.logprobs, other.own_tokens.logprobs, atol=TOLERANCE)
        assert len(one.continuations) == len(other.continuations)
        for found, expected in zip(one.continuations, other.continuations, strict=True):
            assert list(found.tokens.token_ids) == list(expected.tokens.token_ids)
            assert found.logprob == pytest.approx(expected.logprob, abs=TOLERANCE * 10)
            assert found.is_greedy == expected.is_greedy
        assert one.tokens.logical == other.tokens.logical


def test_the_answers_are_those_of_one_batch(llama_folder: Path) -> None:
    limits = ("--max-prompt-tokens", "128", "--max-batch-tokens", "100")
    # By default it follows from the measured speed, and a machine that has other work too may be slow.
    unlimited = ("--max-prompt-tokens", "128", "--max-batch-tokens", "4096")
    with ServerProcess("--model", str(llama_folder), *unlimited) as server:
        whole = server.wait_until_serving().stub().Score(all_kinds())
    with ServerProcess("--model", str(llama_folder), *limits) as server:
        stub = server.wait_until_serving().stub()
        assert stub.GetModel(pb.GetModelRequest()).limits.max_batch_tokens == 100
        parts = stub.Score(all_kinds())
        metrics = server.metrics()
    assert_same(parts, whole)
    assert parts.id == "all"
    for one, other in zip(parts.scores, whole.scores, strict=True):
        assert (one.tokens.scored, one.flops) == (other.tokens.scored, other.flops)
    assert metrics["trt_server_batch_size_count{onnxruntime}"] > 5
    assert metrics["trt_server_requests_total{OK}"] == 1
    computed = sum(score.tokens.computed for score in parts.scores)
    assert metrics["trt_server_tokens_total{onnxruntime,computed}"] == computed
    timing = parts.timing
    stages = timing.queue_ns + timing.assemble_ns + timing.copy_in_ns + timing.core_ns + timing.copy_out_ns
    assert 0 < stages <= timing.total_ns
    assert metrics["trt_server_core_seconds_total{onnxruntime}"] == pytest.approx(timing.core_ns / 1e9)


def test_a_prompt_longer_than_a_batch_is_one_by_itself(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--max-batch-tokens", "100") as server:
        stub = server.wait_until_serving().stub()
        reply = stub.Score(ids_request(150, 20, 30))
        assert reply.batch.prompts == 2
        assert_same(stub.Score(ids_request(150)), pb.ScoreResponse(scores=reply.scores[:1]))


def test_others_are_served_between_the_parts(llama_folder: Path, tmp_path: Path) -> None:
    """Eight parts, each held by its first token until the test lets it go, and another caller's request."""
    tokens = range(100, 108)
    machine = HoldingMachine.make(tmp_path, tokens)
    with machine.start(llama_folder, "--max-batch-tokens", "4", "--max-batch-size", "8") as server:
        stub = server.wait_until_serving().stub()
        large = request(*(ids_prompt([token, 5, 9]) for token in tokens))
        call = stub.Score.future(large, timeout=SECONDS)
        wait_until(lambda: len(machine.held) == 1)
        other = ask_in_order(stub_of_its_own(server), ids_request(3))
        machine.let_go(*tokens[:ENGINE_DEPTH])
        assert next(other).response.scores
        assert not call.done()
        machine.let_go(*tokens)
        assert len(call.result().scores) == len(tokens)
    with ServerProcess("--model", str(llama_folder)) as server:
        assert_same(call.result(), server.wait_until_serving().stub().Score(large))


def test_the_largest_batch_by_default_follows_from_the_speed() -> None:
    """As many tokens as take so long, one longest prompt at least, and no more than requests have."""
    batching = Batching(32, 32 * 2048, 0.0, max_row_tokens=2048, max_seconds=5.0)
    assert batching.for_speed(1000.0).max_tokens == 5000
    assert batching.for_speed(10.0).max_tokens == 2048
    assert batching.for_speed(1e9).max_tokens == 32 * 2048
    given = Batching(32, 100, 0.0, max_row_tokens=2048)
    assert given.for_speed(1000.0).max_tokens == 100


def test_the_default_is_told(server: ServerProcess) -> None:
    limits = server.stub().GetModel(pb.GetModelRequest()).limits
    assert limits.max_prompt_tokens <= limits.max_batch_tokens <= 8 * limits.max_prompt_tokens
