"""The reply to a request for completions, from the contract's replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from scoring.v1 import scoring_pb2 as pb
from trt_common.tokenizer import START

from trt_server.http.completions_request import CompletionsRequest, PromptSource
from trt_server.http.logprobs import (
    Logprob,
    ScoredToken,
    TokenNames,
    completion_logprobs,
    own_tokens,
    prompt_logprobs,
)
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.rpc.scoring import Answer

# Bytes of memory for each token that is told, with its text and its log-probability.
TOLD_MEMORY = 128


@dataclass(frozen=True)
class Heading:
    """What a reply begins with.

    Attributes:
        id: Of the reply.
        created: Seconds since 1970.
        model: The served model's id.
    """

    id: str
    created: int
    model: str


@dataclass(frozen=True)
class ScoredPrompt:
    """A prompt and its score.

    Attributes:
        source: As the caller sent it.
        token_ids: Its tokens, special ones included.
        score: The service's.
    """

    source: PromptSource
    token_ids: Sequence[int]
    score: pb.PromptScore


def reply_memory(request: CompletionsRequest, answer: Answer) -> int:
    """Return the bytes of memory that an answer takes in a reply: those of each token that is told."""
    told = 1 + max(request.logprobs or 0, request.prompt_logprobs or 0)
    return TOLD_MEMORY * told * sum(len(prompt.token_ids) for prompt in answer.prompts)


def completions_reply(
    request: CompletionsRequest, answers: Sequence[Answer], tokenizer: CheckpointTokenizer, heading: Heading
) -> dict[str, Any]:
    """Return the reply, as an object of JSON.

    Args:
        request: What was asked for.
        answers: Those to its `score_requests`.
        tokenizer: The checkpoint's.
        heading: What it begins with.

    Raises:
        NoTokenizerError: The model has no tokenizer, so that there is no text.
    """
    scored = [
        (prompt.token_ids.tolist(), score)
        for answer in answers
        for prompt, score in zip(answer.prompts, answer.response.scores, strict=True)
    ]
    writer = _ChoiceWriter(request, tokenizer)
    choices = [
        writer.choice(index, ScoredPrompt(source, token_ids, score))
        for index, (source, (token_ids, score)) in enumerate(zip(request.prompts, scored, strict=True))
    ]
    prompt_tokens = sum(len(token_ids) for token_ids, _ in scored)
    completion_tokens = request.max_tokens * len(scored)
    return {
        "id": heading.id,
        "object": "text_completion",
        "created": heading.created,
        "model": heading.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
        "timings": [_timings(answer.response) for answer in answers],
    }


def _timings(response: pb.ScoreResponse) -> dict[str, int]:
    """Return the times of one of the contract's requests in nanoseconds, and what was computed for it."""
    timing = response.timing
    return {
        "prompts": len(response.scores),
        **{field.name: getattr(timing, field.name) for field in timing.DESCRIPTOR.fields},
        "computed_tokens": sum(score.tokens.computed for score in response.scores),
        "scored_positions": sum(score.tokens.scored for score in response.scores),
        "padding_tokens": response.batch.padding_tokens,
        "flops": sum(score.flops for score in response.scores),
    }


class _ChoiceWriter:
    """Writes the choices of one reply."""

    def __init__(self, request: CompletionsRequest, tokenizer: CheckpointTokenizer) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._names = TokenNames(tokenizer.decoder, bool(request.return_tokens_as_token_ids))

    def choice(self, index: int, scored: ScoredPrompt) -> dict[str, Any]:
        """Return one choice, at this place in the reply."""
        request, row, length = self._request, self._row(scored), len(scored.token_ids)
        prompt, new = row[:length], row[length:]
        choice: dict[str, Any] = {
            "index": index,
            "text": (_text(scored.source, prompt) if request.echo else "") + self._visible(new),
            "logprobs": None,
            "finish_reason": self._finish_reason(new),
            "stop_reason": None,
            "prompt_logprobs": None,
        }
        if (count := request.logprobs) is not None:
            echoed = [token.with_others(count) for token in prompt] if request.echo else []
            offsets = self._offsets(scored, [*echoed, *new])
            choice["logprobs"] = completion_logprobs([*echoed, *new], offsets, self._names)
        if (count := request.prompt_logprobs) is not None:
            choice["prompt_logprobs"] = prompt_logprobs(
                [token.with_others(count) for token in prompt], self._names
            )
        if request.return_token_ids:
            choice["prompt_token_ids"] = list(scored.token_ids)
            choice["token_ids"] = [token.token_id for token in new]
        return choice

    def _row(self, scored: ScoredPrompt) -> list[ScoredToken]:
        """Return the prompt's tokens and the generated one, where there is one."""
        ids = [*scored.token_ids, *[scored.score.top_token_id] * self._request.max_tokens]
        begins, decoder = self._begins(scored), self._tokenizer.decoder
        rest = decoder.texts(ids[begins:])
        texts = [*(decoder.text([token_id]) for token_id in ids[:begins]), *rest.texts]
        places = [*[START] * begins, *rest.places[:-1]]
        return [
            ScoredToken(token_id, text, place, logprob, others)
            for token_id, text, place, (logprob, others) in zip(
                ids, texts, places, self._logprobs(scored), strict=True
            )
        ]

    def _logprobs(self, scored: ScoredPrompt) -> list[Logprob]:
        """Return what the service says of each token of the row; nothing of one that it was not asked for."""
        request = self._request
        found: list[Logprob] = [(None, ())] * len(scored.token_ids)
        if request.scores_prompt:
            found[1:] = own_tokens(scored.score.own_tokens, request.top_tokens)
        if request.max_tokens:
            found.append((scored.score.top_logprob, self._others(scored.score)))
        return found

    def _others(self, score: pb.PromptScore) -> list[tuple[int, float]]:
        """Return what is told beside the generated token."""
        if self._request.logprob_token_ids:
            return list(zip(score.candidate_ids, score.candidate_logprobs, strict=True))
        top = zip(score.top_token_ids, score.top_logprobs, strict=True)
        return list(top)[: self._request.logprobs or 0]

    def _begins(self, scored: ScoredPrompt) -> int:
        """Return how many special tokens the tokenizer has put before a text."""
        has_them = isinstance(scored.source, str) and self._request.add_special_tokens
        return len(self._tokenizer.first) if has_them else 0

    def _offsets(self, scored: ScoredPrompt, tokens: Sequence[ScoredToken]) -> list[int]:
        """Return where each token begins in the choice's text, which has no special tokens before a text."""
        begins = self._begins(scored) if self._request.echo else 0
        lengths = [0 if number < begins else len(token.text) for number, token in enumerate(tokens)]
        return list(accumulate(lengths, initial=0))[: len(tokens)]

    def _visible(self, new: Sequence[ScoredToken]) -> str:
        hidden: frozenset[int] = frozenset()
        if self._request.skip_special_tokens:
            hidden = self._tokenizer.decoder.special_ids
        return "".join(token.text for token in new if token.token_id not in hidden)

    def _finish_reason(self, new: Sequence[ScoredToken]) -> str:
        ends = any(token.token_id in self._tokenizer.end_tokens for token in new)
        return "stop" if ends else "length"


def _text(source: PromptSource, tokens: Sequence[ScoredToken]) -> str:
    """Return a prompt's text: the caller's own, or that of its tokens."""
    return source if isinstance(source, str) else "".join(token.text for token in tokens)
