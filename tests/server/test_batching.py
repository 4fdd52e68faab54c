"""What is merged into one batch: nothing by default, like lengths within the limits where asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from processes import ServerProcess
from score_requests import ids_request
from scoring.v1 import scoring_pb2 as pb
from trt_server.errors import QueueFullError
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.scheduling.queue import RequestQueue
from trt_server.scheduling.request import ScoringRequest

LONG_DELAY_US = "20000000"


def ask_at_once(server: ServerProcess, *lengths: int) -> list[pb.ScoreResponse]:
    stub = server.stub()
    calls = [stub.Score.future(ids_request(length)) for length in lengths]
    return [call.result() for call in calls]


def test_requests_are_never_merged_by_default(server: ServerProcess) -> None:
    replies = ask_at_once(server, *[40] * 12)
    assert {reply.batch.prompts for reply in replies} == {1}


def test_requests_that_are_still_tokenized_count() -> None:
    """Else a burst of text would be held without a bound, and refused only then."""
    requests = RequestQueue(2)
    with (
        requests.expecting("a"),
        requests.expecting("a"),
        pytest.raises(QueueFullError),
        requests.expecting("a"),
    ):
        pass
    with requests.expecting("a"):
        pass


def test_requests_are_merged_until_the_batch_is_full(server: ServerProcess, llama_folder: Path) -> None:
    lengths = [30, 70, 12, 55]
    arguments = ("--max-batch-size", "4", "--max-queue-delay-us", LONG_DELAY_US)
    with ServerProcess("--model", str(llama_folder), *arguments) as merging:
        merged = ask_at_once(merging.wait_until_serving(), *lengths)
        metrics = merging.metrics()
    alone = ask_at_once(server, *lengths)
    for length, one, other in zip(lengths, merged, alone, strict=True):
        assert (one.batch.prompts, one.batch.padded_length) == (4, 70)
        assert one.batch.padding_tokens == 70 - length
        np.testing.assert_allclose(
            one.scores[0].candidate_logprobs, other.scores[0].candidate_logprobs, atol=1e-4
        )
    # Each is charged its share of the one batch.
    assert len({reply.timing.core_ns for reply in merged}) == 1
    assert metrics["trt_server_batch_size_count{onnxruntime}"] == 1
    assert metrics["trt_server_batch_size_sum{onnxruntime}"] == 4
    assert metrics["trt_server_tokens_total{onnxruntime,padding}"] == 4 * 70 - sum(lengths)


def test_delay_ends_the_wait_for_a_batch_that_is_not_full(llama_folder: Path) -> None:
    arguments = ("--max-batch-size", "4", "--max-queue-delay-us", "1000")
    with ServerProcess("--model", str(llama_folder), *arguments) as server:
        (reply,) = ask_at_once(server.wait_until_serving(), 20)
    assert reply.batch.prompts == 1


def test_token_budget_bounds_what_is_merged(llama_folder: Path) -> None:
    arguments = ("--max-batch-tokens", "250", "--max-queue-delay-us", LONG_DELAY_US)
    with ServerProcess("--model", str(llama_folder), *arguments) as server:
        replies = ask_at_once(server.wait_until_serving(), *[100] * 4)
        assert [reply.batch.prompts for reply in replies] == [2] * 4
        metrics = server.metrics()
    assert metrics["trt_server_batch_size_count{onnxruntime}"] == 2
    assert metrics["trt_server_batch_size_sum{onnxruntime}"] == 4


def test_like_lengths_go_together() -> None:
    async def batches() -> list[list[int]]:
        waiting = RequestQueue(10)
        for length in (10, 300, 12, 305):
            prompt = TokenPrompt(np.zeros(length, np.int32), np.zeros(1, np.int32))
            waiting.put(ScoringRequest([prompt], 1000))
        batching = Batching(max_rows=2, max_tokens=10_000, max_delay_seconds=20)
        return [[request.longest for request in waiting.take(batching)] for _ in range(2)]

    assert asyncio.run(batches()) == [[10, 12], [300, 305]]
