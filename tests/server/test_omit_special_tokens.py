"""Texts over gRPC without the BOS that the tokenizer's files ask for."""

from __future__ import annotations

from pathlib import Path

from processes import ServerProcess
from score_requests import request
from scoring.v1 import scoring_pb2 as pb
from transformers import AutoTokenizer

TEXT, ENDING = "The river carries sand to the", " sea"


def test_a_text_and_what_follows_it_have_no_bos(server: ServerProcess, llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    ending = tokenizer(TEXT + ENDING, add_special_tokens=False).input_ids[len(ids) :]
    as_text = pb.Prompt(
        text=TEXT,
        omit_special_tokens=True,
        candidates=[pb.Candidate(text=ENDING)],
        continuations=[pb.Continuation(text=ENDING)],
        all_tokens=True,
    )
    as_ids = pb.Prompt(
        token_ids=pb.TokenIds(ids=ids),
        candidates=[pb.Candidate(token_id=ending[0])],
        continuations=[pb.Continuation(token_ids=pb.TokenIds(ids=ending))],
        all_tokens=True,
    )
    (text_score,) = server.stub().Score(request(as_text)).scores
    (ids_score,) = server.stub().Score(request(as_ids)).scores
    assert text_score.own_tokens.token_ids == ids[1:]
    assert text_score == ids_score
    with_bos = pb.Prompt(text=TEXT, candidates=[pb.Candidate(text=ENDING)])
    (bos_score,) = server.stub().Score(request(with_bos)).scores
    assert bos_score.tokens.logical == len(ids) + 1
