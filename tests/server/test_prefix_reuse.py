"""Shared prefixes computed once: the same answers, and figures that say what was computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import FAMILIES, write_checkpoint
from processes import ServerProcess
from score_requests import ids_prompt
from scoring.v1 import scoring_pb2 as pb

TOLERANCE = 1e-4
PREFIXES = {"a": [3 * i % 500 for i in range(60)], "b": [7 * i % 500 + 5 for i in range(25)]}


def prompt(prefix: str, tail: int) -> pb.Prompt:
    """A prompt that begins with a named prefix and goes on for `tail` tokens of its own."""
    message = ids_prompt([*PREFIXES[prefix], *((11 * i + tail) % 500 for i in range(tail))])
    message.shared_prefix_tokens = len(PREFIXES[prefix])
    return message


def request(*prompts: pb.Prompt, reuse: bool = True) -> pb.ScoreRequest:
    return pb.ScoreRequest(prompts=prompts, allow_prefix_reuse=reuse)


def assert_same(ours: pb.ScoreResponse, theirs: pb.ScoreResponse) -> None:
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        np.testing.assert_allclose(one.candidate_logprobs, other.candidate_logprobs, atol=TOLERANCE)
        assert one.top_logprob == pytest.approx(other.top_logprob, abs=TOLERANCE)
        assert one.tokens.logical == other.tokens.logical


@pytest.fixture
def fresh_server(llama_folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", str(llama_folder)) as server:
        yield server.wait_until_serving()


@pytest.mark.parametrize("family", FAMILIES)
def test_same_answers_in_ragged_batches_with_several_prefixes(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / family, family)
    asked = [prompt("a", 9), prompt("b", 30), ids_prompt(range(40)), prompt("a", 1), prompt("b", 77)]
    with ServerProcess("--model", str(folder)) as server:
        stub = server.wait_until_serving().stub()
        whole = stub.Score(request(*asked, reuse=False))
        for _ in range(2):
            assert_same(stub.Score(request(*asked)), whole)
        for each, score in zip(asked, whole.scores, strict=True):
            alone = stub.Score(request(each))
            np.testing.assert_allclose(
                alone.scores[0].candidate_logprobs, score.candidate_logprobs, atol=TOLERANCE
            )


def test_only_what_was_computed_is_counted(fresh_server: ServerProcess) -> None:
    stub = fresh_server.stub()
    whole = stub.Score(request(prompt("a", 9), reuse=False))
    first = stub.Score(request(prompt("a", 9), prompt("a", 4)))
    second = stub.Score(request(prompt("a", 9)))
    assert [s.tokens.computed for s in whole.scores] == [69]
    # The first prompt of a prefix computes it, the second of the same batch has it already.
    assert [s.tokens.computed for s in first.scores] == [69, 4]
    assert [s.tokens.computed for s in second.scores] == [9]
    assert first.scores[0].flops == whole.scores[0].flops
    assert second.scores[0].flops < whole.scores[0].flops
    assert (first.batch.padded_length, first.batch.padding_tokens) == (9, 5)
    metrics = fresh_server.metrics()
    assert metrics["trt_server_tokens_total{onnxruntime,computed}"] == 69 + 69 + 4 + 9
    assert metrics["trt_server_tokens_total{onnxruntime,logical}"] == 69 + 69 + 64 + 69
    geometry = stub.GetModel(pb.GetModelRequest()).geometry
    per_token = 2 * geometry.layers * geometry.key_value_heads * geometry.head_size * 4
    assert metrics["trt_server_prefix_cache_bytes{onnxruntime}"] == 60 * per_token


def test_without_permission_nothing_comes_from_the_store(fresh_server: ServerProcess) -> None:
    stub = fresh_server.stub()
    stub.Score(request(prompt("a", 9)))
    forbidden = stub.Score(request(prompt("a", 9), reuse=False))
    assert forbidden.scores[0].tokens.computed == 69
    unnamed = prompt("a", 9)
    unnamed.shared_prefix_tokens = 0
    assert stub.Score(request(unnamed)).scores[0].tokens.computed == 69


def test_a_prefix_as_long_as_its_prompt_leaves_the_last_token_to_compute(fresh_server: ServerProcess) -> None:
    stub = fresh_server.stub()
    all_shared = ids_prompt(PREFIXES["a"])
    all_shared.shared_prefix_tokens = 60
    whole = stub.Score(request(all_shared, reuse=False))
    stub.Score(request(all_shared))
    again = stub.Score(request(all_shared))
    assert_same(again, whole)
    assert again.scores[0].tokens.computed == 1


@pytest.mark.parametrize("kept", ["neither", "one", "none at all"])
def test_a_small_store_changes_no_answer(llama_folder: Path, kept: str) -> None:
    # 3 layers, keys and values, 2 heads of 16, 4 bytes: 768 bytes a token.
    size = {"neither": 24 * 768, "one": 60 * 768, "none at all": 0}[kept]
    asked = [prompt("a", 9), prompt("b", 5), prompt("a", 3)]
    with ServerProcess("--model", str(llama_folder), "--prefix-cache-bytes", str(size)) as server:
        stub = server.wait_until_serving().stub()
        whole = stub.Score(request(*asked, reuse=False))
        for _ in range(2):
            answer = stub.Score(request(*asked))
            assert_same(answer, whole)
        used = server.metrics().get("trt_server_prefix_cache_bytes{onnxruntime}", 0)
        assert used <= size
        for each in asked:
            assert_same(stub.Score(request(each)), stub.Score(request(each, reuse=False)))
    computed = [score.tokens.computed for score in answer.scores]
    # Where one fits, both prompts of the first share it, before the other puts it out.
    assert computed == ([69, 30, 3] if kept == "one" else [69, 30, 63])


def test_least_recently_used_goes_first(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--prefix-cache-bytes", str(90 * 768)) as server:
        stub = server.wait_until_serving().stub()

        def computed(name: str) -> int:
            return int(stub.Score(request(prompt(name, 2))).scores[0].tokens.computed)

        PREFIXES["c"] = [(13 * i + 1) % 500 for i in range(20)]
        assert computed("a") == 62
        assert computed("b") == 27
        assert computed("a") == 2
        assert computed("c") == 22  # 60 + 25 + 20 > 90: out goes b, which was used longest ago
        assert computed("a") == 2
        assert computed("b") == 27


def test_a_store_larger_than_the_device_is_refused_before_loading() -> None:
    with ServerProcess("--prefix-cache-bytes", "900TB") as server:
        assert server.wait() == 1
        assert "--prefix-cache-bytes" in server.lines[-1]


def test_a_prefix_that_cannot_be_kept_counts_in_the_batch_s_limit(llama_folder: Path) -> None:
    """Prompts of 69 and 64 tokens are more than a batch of 100 may be: they are run one after the other."""
    limits = ("--max-batch-tokens", "100", "--prefix-cache-bytes", str(24 * 768))
    with ServerProcess("--model", str(llama_folder), *limits) as server:
        stub = server.wait_until_serving().stub()
        alone = [stub.Score(request(prompt("a", tokens))) for tokens in (9, 4)]
        both = stub.Score(request(prompt("a", 9), prompt("a", 4)))
    assert both.batch.prompts == 1
    for score, one in zip(both.scores, alone, strict=True):
        np.testing.assert_allclose(score.candidate_logprobs, one.scores[0].candidate_logprobs, atol=TOLERANCE)


def test_a_long_prefix_is_computed_in_pieces(tmp_path: Path) -> None:
    """With a window, which reaches from one piece into the one before."""
    folder = write_checkpoint(tmp_path, "mistral", max_position_embeddings=1024, sliding_window=300)
    PREFIXES["long"] = [(17 * i + i // 7) % 500 for i in range(700)]
    with ServerProcess("--model", str(folder)) as server:
        stub = server.wait_until_serving().stub()
        whole = stub.Score(request(prompt("long", 33), reuse=False))
        for computed in (733, 33):
            reused = stub.Score(request(prompt("long", 33)))
            assert_same(reused, whole)
            assert reused.scores[0].tokens.computed == computed


def test_only_requests_with_the_same_prefix_are_merged(llama_folder: Path) -> None:
    arguments = ("--max-batch-size", "2", "--max-queue-delay-us", "20000000")
    asked = [request(prompt(name, tail)) for name, tail in (("a", 9), ("b", 9), ("a", 5), ("b", 5))]
    with ServerProcess("--model", str(llama_folder), *arguments) as server:
        stub = server.wait_until_serving().stub()
        replies = [call.result() for call in [stub.Score.future(one) for one in asked]]
        whole = [
            call.result() for call in [stub.Score.future(request(*one.prompts, reuse=False)) for one in asked]
        ]
    for reply, expected in zip(replies, whole, strict=True):
        assert_same(reply, expected)
        assert (reply.batch.prompts, reply.batch.padded_length) == (2, 9)
    assert sum(score.tokens.computed for reply in replies for score in reply.scores) == 60 + 25 + 28
