"""Scores through a real channel, against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import reference_model
from processes import ServerProcess
from score_requests import LETTERS, ids_request
from scoring.v1 import scoring_pb2 as pb
from transformers import AutoTokenizer

LENGTHS = (1, 2, 17, 64, 300, 5, 128, 33)


@pytest.mark.parametrize("size", [1, 8])
def test_scores_agree_with_transformers(server: ServerProcess, llama_folder: Path, size: int) -> None:
    import torch

    model = reference_model(llama_folder)
    stub = server.stub()
    for start in range(0, len(LENGTHS), size):
        request = ids_request(*LENGTHS[start : start + size])
        response = stub.Score(request)
        assert response.batch.prompts == size
        assert response.batch.padded_length == max(LENGTHS[start : start + size])
        for prompt, score in zip(request.prompts, response.scores, strict=True):
            expected = model(torch.tensor([list(prompt.token_ids.ids)])).logits[0, -1].log_softmax(-1)
            np.testing.assert_allclose(score.candidate_logprobs, expected[list(LETTERS)], atol=1e-3)
            assert list(score.candidate_ids) == list(LETTERS)
            assert score.top_token_id == int(expected.argmax())
            assert score.top_logprob == pytest.approx(float(expected.max()), abs=1e-3)
            assert score.tokens.logical == score.tokens.computed == len(prompt.token_ids.ids)


def test_text_is_scored_like_its_tokens(server: ServerProcess, llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    text = "Which of the following numbers is the largest?\nAnswer:"
    ids = tokenizer.encode(text)
    follower = tokenizer.encode(text + " A")[len(ids)]
    by_text = server.stub().Score(
        pb.ScoreRequest(prompts=[pb.Prompt(text=text, candidates=[pb.Candidate(text=" A")])])
    )
    by_ids = server.stub().Score(
        pb.ScoreRequest(
            prompts=[pb.Prompt(token_ids=pb.TokenIds(ids=ids), candidates=[pb.Candidate(token_id=follower)])]
        )
    )
    assert list(by_text.scores[0].candidate_ids) == [follower]
    assert by_text.scores[0].candidate_logprobs == by_ids.scores[0].candidate_logprobs
    assert by_text.scores[0].tokens == by_ids.scores[0].tokens
    assert by_text.timing.tokenize_ns > 0
    assert by_ids.timing.tokenize_ns == 0


def test_prompts_of_one_request_may_differ_in_candidates(server: ServerProcess) -> None:
    request = ids_request(5, 9)
    del request.prompts[1].candidates[1:]
    response = server.stub().Score(request)
    assert [len(score.candidate_logprobs) for score in response.scores] == [4, 1]


def test_timing_stages_fit_in_the_total(server: ServerProcess) -> None:
    timing = server.stub().Score(ids_request(300)).timing
    stages = (
        timing.tokenize_ns,
        timing.queue_ns,
        timing.assemble_ns,
        timing.copy_in_ns,
        timing.core_ns,
        timing.copy_out_ns,
    )
    assert min(stages) >= 0
    assert timing.core_ns > 0
    assert sum(stages) <= timing.total_ns


def test_stream_answers_every_request_under_its_id(server: ServerProcess) -> None:
    requests = {f"q{number}": ids_request(number + 1, id=f"q{number}") for number in range(40)}
    replies = list(server.stub().StreamScore(iter(requests.values())))
    assert sorted(reply.id for reply in replies) == sorted(requests)
    alone = {key: server.stub().Score(request) for key, request in requests.items()}
    for reply in replies:
        assert reply.response.scores == alone[reply.id].scores


def test_a_bad_request_does_not_end_its_stream(server: ServerProcess) -> None:
    requests = [ids_request(3, id="a"), pb.ScoreRequest(id="bad"), ids_request(4, id="b")]
    replies = {reply.id: reply for reply in server.stub().StreamScore(iter(requests))}
    assert replies["bad"].WhichOneof("outcome") == "error"
    assert "no prompts" in replies["bad"].error.message
    assert {key for key, reply in replies.items() if reply.WhichOneof("outcome") == "response"} == {"a", "b"}
