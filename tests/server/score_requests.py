"""Requests as a caller would write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scoring.v1 import scoring_pb2 as pb

LETTERS = (10, 11, 12, 13)


def ids_prompt(token_ids: Iterable[int], candidates: Sequence[int] = LETTERS) -> pb.Prompt:
    return pb.Prompt(
        token_ids=pb.TokenIds(ids=token_ids),
        candidates=[pb.Candidate(token_id=candidate) for candidate in candidates],
    )


def request(*prompts: pb.Prompt, id: str = "r") -> pb.ScoreRequest:
    return pb.ScoreRequest(id=id, prompts=prompts)


def ids_request(*lengths: int, id: str = "r") -> pb.ScoreRequest:
    """Prompts of these lengths, each of its own tokens."""
    prompts = [ids_prompt((7 * length + 3 * i) % 500 for i in range(length)) for length in lengths]
    return request(*prompts, id=id)


def slow_request(id: str = "slow") -> pb.ScoreRequest:
    """Some tenths of a second of work for the slow checkpoint."""
    return ids_request(*[1500] * 6, id=id)
