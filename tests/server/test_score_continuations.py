"""Continuations, a prompt's own tokens and the most likely ones, against transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from checkpoints import FAMILIES, reference_model, write_checkpoint
from grpc import StatusCode
from processes import ServerProcess
from score_requests import LETTERS, ids_prompt
from scoring.v1 import scoring_pb2 as pb
from transformers import AutoTokenizer

TOLERANCE = 1e-4
CONTEXT = [5 * i % 500 for i in range(60)]
ENDINGS = ([7, 8, 9], [400], [(11 * i + 3) % 500 for i in range(25)], [7, 8, 10])


def prompt(
    context: Sequence[int] = CONTEXT, endings: Sequence[Sequence[int]] = ENDINGS, **asked: Any
) -> pb.Prompt:
    return pb.Prompt(
        token_ids=pb.TokenIds(ids=context),
        continuations=[pb.Continuation(token_ids=pb.TokenIds(ids=ending)) for ending in endings],
        **asked,
    )


def request(*prompts: pb.Prompt, **fields: Any) -> pb.ScoreRequest:
    return pb.ScoreRequest(prompts=prompts, **fields)


def reference(folder: Path, token_ids: Sequence[int]) -> torch.Tensor:
    """For each token of the text but the first its distribution, [tokens - 1, vocabulary]."""
    logits = reference_model(folder)(torch.tensor([list(token_ids)])).logits[0, :-1]
    return logits.log_softmax(-1)


def assert_is(found: pb.TokenScores, expected: torch.Tensor, token_ids: Sequence[int], top: int = 0) -> None:
    """Whether these are the log-probabilities of tokens of which `expected` has the distributions."""
    assert list(found.token_ids) == list(token_ids)
    own = expected[torch.arange(len(token_ids)), torch.tensor(token_ids)]
    np.testing.assert_allclose(found.logprobs, own, atol=TOLERANCE)
    values, ids = expected.topk(top)
    np.testing.assert_allclose(found.top_logprobs, values.flatten(), atol=TOLERANCE)
    assert list(found.top_token_ids) == ids.flatten().tolist()


def assert_agrees(folder: Path, asked: pb.Prompt, score: pb.PromptScore) -> None:
    """Every number of the reply, each continuation against its own whole text."""
    context, top = list(asked.token_ids.ids), asked.top_tokens
    for continuation, found in zip(asked.continuations, score.continuations, strict=True):
        ending = list(continuation.token_ids.ids)
        expected = reference(folder, context + ending)[len(context) - 1 :]
        assert_is(found.tokens, expected, ending, top)
        assert found.logprob == pytest.approx(sum(found.tokens.logprobs), abs=1e-5)
        assert found.is_greedy == (expected.argmax(-1).tolist() == ending)
    after = reference_model(folder)(torch.tensor([context])).logits[0, -1].log_softmax(-1)
    np.testing.assert_allclose(
        score.candidate_logprobs, after[[each.token_id for each in asked.candidates]], atol=TOLERANCE
    )
    assert score.top_token_id == int(after.argmax())
    assert list(score.top_token_ids) == after.topk(top).indices.tolist()
    np.testing.assert_allclose(score.top_logprobs, after.topk(top).values, atol=TOLERANCE)
    own = len(context) - 1 if asked.all_tokens else asked.last_tokens
    if own:
        assert_is(score.own_tokens, reference(folder, context)[-own:], context[-own:], top)
    else:
        assert not score.HasField("own_tokens")


LETTER_CANDIDATES = [pb.Candidate(token_id=letter) for letter in LETTERS]
ASKED = {
    "continuations": prompt(),
    "one continuation": prompt(endings=[[3, 1, 4, 1, 5]]),
    "with the most likely tokens": prompt(top_tokens=5),
    "with candidates": prompt(candidates=LETTER_CANDIDATES),
    "after one token": prompt([17]),
    "own tokens": prompt(endings=(), all_tokens=True),
    "the last own tokens": prompt(endings=(), last_tokens=7, top_tokens=3),
    "everything": prompt(candidates=LETTER_CANDIDATES, last_tokens=9, top_tokens=20),
    "the most likely tokens alone": prompt(endings=(), top_tokens=4),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_agrees_with_transformers(server: ServerProcess, llama_folder: Path, asked: pb.Prompt) -> None:
    (score,) = server.stub().Score(request(asked)).scores
    assert_agrees(llama_folder, asked, score)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_mix_of_prompts_in_every_family_with_and_without_reuse(tmp_path: Path, family: str) -> None:
    folder = write_checkpoint(tmp_path / family, family)
    mixed = [*ASKED.values(), ids_prompt(range(90)), prompt([*CONTEXT, 1, 2, 3])]
    for each in mixed[:1] + mixed[-1:]:
        each.shared_prefix_tokens = 40
    with ServerProcess("--model", str(folder)) as server:
        stub = server.wait_until_serving().stub()
        for reuse in (False, True, True):
            reply = stub.Score(request(*mixed, allow_prefix_reuse=reuse))
            for asked, score in zip(mixed, reply.scores, strict=True):
                assert_agrees(folder, asked, score)


def test_reference_engine_answers_the_same(llama_folder: Path) -> None:
    asked = list(ASKED.values())
    with ServerProcess("--model", str(llama_folder), "--reference", "torch") as server:
        stub = server.wait_until_serving().stub()
        reply = stub.Score(request(*asked, engine=pb.ENGINE_ROLE_REFERENCE))
        compiled = stub.Score(request(*asked))
    for each, score, other in zip(asked, reply.scores, compiled.scores, strict=True):
        assert_agrees(llama_folder, each, score)
        assert score.tokens == other.tokens
        # transformers computes the last layer whole.
        assert (score.flops > other.flops) == (score.tokens.scored < score.tokens.computed)


def test_prompt_is_computed_once_for_all_its_continuations(server: ServerProcess) -> None:
    stub = server.stub()
    before = server.metrics()
    reply = stub.Score(request(prompt()))
    after = server.metrics()
    tokens = reply.scores[0].tokens
    assert tokens.computed == 60 + 3 + 1 + 25 + 3
    assert tokens.logical == 4 * 60 + 3 + 1 + 25 + 3
    # The prompt's last position, and of each continuation all but its last.
    assert tokens.scored == 1 + 2 + 0 + 24 + 2
    assert (reply.batch.prompts, reply.batch.padded_length, reply.batch.padding_tokens) == (1, 92, 0)
    for kind in ("computed", "logical"):
        key = f"trt_server_tokens_total{{onnxruntime,{kind}}}"
        assert after[key] - before[key] == getattr(tokens, kind)
    geometry = stub.GetModel(pb.GetModelRequest())
    # Products once a token; of attention 4·d operations a key, the own one half; the head once a position.
    keys = 60**2 / 2 + sum(((60 + n) ** 2 - 60**2) / 2 for n in (3, 1, 25, 3))
    sizes = geometry.geometry
    width = sizes.query_heads * sizes.head_size
    expected = 2 * geometry.parameters.matmul * 92 + 4 * (sizes.layers - 1) * width * keys
    expected += 2 * sizes.vocabulary_size * sizes.hidden_size * 29
    # In the last layer the 29 alone, but keys and values for all.
    expected -= 2 * sizes.hidden_size * (2 * width + 3 * sizes.intermediate_size) * (92 - 29)
    asked = [59, 60, 61, *range(60, 84), 60, 61]
    expected += 4 * width * sum(position + 0.5 for position in asked)
    assert reply.scores[0].flops == expected


def test_reused_prefix_is_not_computed_again_for_continuations(llama_folder: Path) -> None:
    asked = prompt(shared_prefix_tokens=50)
    with ServerProcess("--model", str(llama_folder)) as server:
        stub = server.wait_until_serving().stub()
        first, second = (stub.Score(request(asked, allow_prefix_reuse=True)).scores[0] for _ in range(2))
    assert (first.tokens.computed, second.tokens.computed) == (92, 42)
    assert first.tokens.logical == second.tokens.logical == 272
    assert_agrees(llama_folder, asked, second)


def test_continuations_that_do_not_fit_in_a_row_get_another(llama_folder: Path) -> None:
    """Which has the prompt again, and that is said."""
    arguments = ("--model", str(llama_folder), "--max-prompt-tokens", "90", "--max-batch-size", "2")
    with ServerProcess(*arguments) as server:
        asked = prompt(last_tokens=4, top_tokens=2)
        reply = server.wait_until_serving().stub().Score(request(asked))
    assert_agrees(llama_folder, asked, reply.scores[0])
    # 60 + 3 + 1 + 25 = 89, and the last one with its prompt.
    assert reply.scores[0].tokens.computed == 89 + 63
    assert reply.scores[0].tokens.logical == 272
    assert (reply.batch.prompts, reply.batch.padded_length) == (2, 89)
    assert reply.batch.padding_tokens == 26


def test_more_rows_than_a_batch_holds_run_one_after_the_other(llama_folder: Path) -> None:
    arguments = ("--model", str(llama_folder), "--max-prompt-tokens", "70", "--max-batch-size", "1")
    endings = [[3 + i, 4 + i, 5 + i, 6 + i] for i in range(9)]
    with ServerProcess(*arguments) as server:
        asked = prompt(endings=endings)
        reply = server.wait_until_serving().stub().Score(request(asked))
        metrics = server.metrics()
    assert_agrees(llama_folder, asked, reply.scores[0])
    assert metrics["trt_server_batch_size_count{onnxruntime}"] == 5
    assert reply.scores[0].tokens.computed == 5 * 60 + 9 * 4


def test_text_is_scored_like_its_tokens(server: ServerProcess, llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    text, endings = "The court held that the contract was", (" void", " the largest")
    ids = tokenizer.encode(text)
    by_text = pb.Prompt(
        text=text, continuations=[pb.Continuation(text=ending) for ending in endings], all_tokens=True
    )
    by_ids = prompt(ids, [tokenizer.encode(text + ending)[len(ids) :] for ending in endings], all_tokens=True)
    one, other = (server.stub().Score(request(each)).scores[0] for each in (by_text, by_ids))
    assert one == other
    assert len(one.continuations[1].tokens.token_ids) > 1


BAD_PROMPTS = {
    "nothing": (prompt(endings=()), StatusCode.INVALID_ARGUMENT, "has no candidates and asks for nothing"),
    "empty continuation": (
        prompt(endings=[[1], []]),
        StatusCode.INVALID_ARGUMENT,
        "prompt 0 has an empty continuation: give each at least one token",
    ),
    "unset continuation": (
        pb.Prompt(token_ids=pb.TokenIds(ids=[1]), continuations=[pb.Continuation()]),
        StatusCode.INVALID_ARGUMENT,
        "prompt 0 has an empty continuation",
    ),
    "beyond the vocabulary": (
        prompt(endings=[[1, 512]]),
        StatusCode.INVALID_ARGUMENT,
        "token id 512 in a continuation of prompt 0 is outside the vocabulary of 512",
    ),
    "too long together": (
        prompt([1] * 2000, [[1], [2] * 49]),
        StatusCode.OUT_OF_RANGE,
        "prompt 0 has 2000 tokens and a continuation of 49, 2049 together, the limit is 2048",
    ),
    "text after ids": (
        pb.Prompt(token_ids=pb.TokenIds(ids=[1]), continuations=[pb.Continuation(text="a")]),
        StatusCode.INVALID_ARGUMENT,
        "prompt 0 is token ids and has a continuation in text",
    ),
    "text that does not follow": (
        pb.Prompt(text="Answer", continuations=[pb.Continuation(text="")]),
        StatusCode.INVALID_ARGUMENT,
        "does not follow its prompt as tokens of its own",
    ),
    "more own tokens than there are": (
        prompt([1, 2, 3], [], last_tokens=3),
        StatusCode.INVALID_ARGUMENT,
        "prompt 0 has 3 tokens and asks for its last 3: nothing comes before the first",
    ),
    "too many top tokens": (
        prompt(top_tokens=21),
        StatusCode.INVALID_ARGUMENT,
        "asks for the 21 most likely tokens, the limit is 20",
    ),
}


@pytest.mark.parametrize(("bad", "code", "text"), BAD_PROMPTS.values(), ids=BAD_PROMPTS)
def test_bad_prompt(server: ServerProcess, bad: pb.Prompt, code: StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.stub().Score(request(bad))
    assert caught.value.code() is code
    assert text in str(caught.value.details())
    assert "\n" not in str(caught.value.details())


def test_bound_of_scored_positions(llama_folder: Path) -> None:
    with ServerProcess("--model", str(llama_folder), "--max-scored-positions", "29") as server:
        stub = server.wait_until_serving().stub()
        assert stub.GetModel(pb.GetModelRequest()).limits.max_scored_positions == 29
        assert_agrees(llama_folder, prompt(), stub.Score(request(prompt())).scores[0])
        with pytest.raises(grpc.RpcError) as caught:
            stub.Score(request(prompt(last_tokens=1)))
    assert caught.value.code() is StatusCode.OUT_OF_RANGE
    assert caught.value.details() == (
        "the request asks for 30 positions, the limit is 29: ask for fewer tokens at once, or start the "
        "server with a larger --max-scored-positions"
    )


def test_limits_are_told(server: ServerProcess) -> None:
    limits = server.stub().GetModel(pb.GetModelRequest()).limits
    assert (limits.max_top_tokens, limits.max_scored_positions) == (20, 0)
