"""The bounds of a request, and what it takes, known from counts before anything of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from scoring.v1 import scoring_pb2 as pb

from trt_server.errors import InvalidRequestError, OutOfRangeError
from trt_server.loading.served_model import (
    MAX_APPENDED_TEXTS,
    MAX_CONTINUATIONS,
    MAX_ID_BYTES,
    MAX_TOKEN_BYTES,
    Limits,
    PromptLimits,
)
from trt_server.request_memory.cost import REQUEST_BYTE_MEMORY

# Token ids that the event loop decodes by itself, in some milliseconds; a candidate takes as long as four.
FEW = 32 * 1024

# Bytes of memory for a candidate or a continuation, which is a message of its own, and for a prompt, with the
# rows that are made of it; beside that of their bytes.
ELEMENT_MEMORY, PROMPT_MEMORY = 64, 1024


@dataclass(frozen=True)
class RequestBounds:
    """How large a request may be.

    Attributes:
        limits: The server's.
        max_positions: Tokens of a prompt that the model could take; the server's own limit may be lower.
    """

    limits: Limits
    max_positions: int

    def check(self, request: pb.ScoreRequest, engine: PromptLimits) -> None:
        """Check what can be counted in no time.

        Args:
            request: Nothing of it was looked at before.
            engine: What the engine takes that will compute it.

        Raises:
            InvalidRequestError: It has no prompts, or too much of something.
            OutOfRangeError: A prompt is too long.
        """
        check_id(request.id)
        if not request.prompts:
            raise InvalidRequestError("the request has no prompts: send at least one")
        if len(request.prompts) > self.limits.max_batch_size:
            raise InvalidRequestError(
                f"the request has {len(request.prompts)} prompts, the limit is {self.limits.max_batch_size}: "
                "send fewer at once, or start the server with a larger --max-batch-size"
            )
        continuations = sum(len(prompt.continuations) for prompt in request.prompts)
        if continuations > MAX_CONTINUATIONS:
            raise InvalidRequestError(
                f"the request has {continuations} continuations, the limit is {MAX_CONTINUATIONS}: "
                "send fewer at once"
            )
        for number, prompt in enumerate(request.prompts):
            self._check_asked(number, prompt, engine.max_candidates)
            self.check_length(number, len(prompt.token_ids.ids), 0)

    def check_length(self, number: int, tokens: int, continuation: int) -> None:
        """Check how long a prompt is with a continuation of it, both in tokens.

        Raises:
            OutOfRangeError: It is too long.
        """
        longest = tokens + continuation
        if longest <= self.limits.max_prompt_tokens:
            return
        what = f"has {tokens} tokens"
        if tokens <= self.limits.max_prompt_tokens:
            what += f" and a continuation of {continuation}, {longest} together"
        raise OutOfRangeError(f"prompt {number} {what}, the limit is {self._prompt_limit()}")

    def check_text(self, number: int, text: str, appended: list[str]) -> None:
        """Check a prompt's text, and the texts that are appended to it, before they are tokenized.

        Raises:
            OutOfRangeError: It has more bytes than a prompt that fits.
        """
        own, longest = len(text.encode()), max((len(each.encode()) for each in appended), default=0)
        limit = self.limits.max_text_bytes
        if own + longest > limit:
            what = f"is a text of {own} bytes"
            if own <= limit:
                what += f" and {longest} that are appended to it"
            raise OutOfRangeError(
                f"prompt {number} {what}, the limit is {limit}, {MAX_TOKEN_BYTES} for each of the "
                f"{self.limits.max_prompt_tokens} tokens that a prompt may have: shorten it"
            )

    def check_appended(self, texts: int) -> None:
        """Check how many candidates and continuations of a request are texts.

        Raises:
            InvalidRequestError: They are too many.
        """
        if texts > MAX_APPENDED_TEXTS:
            raise InvalidRequestError(
                f"the request has more than {MAX_APPENDED_TEXTS} candidates and continuations in text: "
                "send token ids, or fewer at once"
            )

    def _check_asked(self, number: int, prompt: pb.Prompt, most: int | None) -> None:
        asked = len(prompt.candidates) + len(prompt.continuations)
        what = "candidates and continuations" if prompt.continuations else "candidates"
        if most is not None and asked > most:
            raise InvalidRequestError(
                f"prompt {number} has {asked} {what}, the engine's limit is {most}: "
                "send fewer, or the prompt again with the others"
            )
        if asked > self.limits.max_candidates:
            raise InvalidRequestError(
                f"prompt {number} has {asked} {what}, the limit is {self.limits.max_candidates}: "
                "send fewer, or the prompt again with the others"
            )

    def _prompt_limit(self) -> str:
        limit = self.limits.max_prompt_tokens
        if limit < self.max_positions:
            return (
                f"{limit}: shorten it, or start the server with a larger --max-prompt-tokens "
                f"(the model takes {self.max_positions})"
            )
        return f"{limit}, all that the model takes: shorten it"


def returned_id(request_id: str) -> str:
    """Return a request's id as far as an id may go: what a reply to one that is too long has, and the log."""
    return request_id.encode()[:MAX_ID_BYTES].decode(errors="ignore")


def check_id(request_id: str) -> None:
    """Check the length of a request's id.

    Raises:
        InvalidRequestError: It is too long.
    """
    if (size := len(request_id.encode())) > MAX_ID_BYTES:
        raise InvalidRequestError(
            f"the request's id has {size} bytes, the limit is {MAX_ID_BYTES}: send a shorter one"
        )


def is_large(request: pb.ScoreRequest) -> bool:
    """Return whether decoding it, or encoding its answer, would hold up the event loop."""
    elements = sum(len(prompt.candidates) + len(prompt.continuations) for prompt in request.prompts)
    return 4 * elements > FEW or 4 * elements + sum(map(_places, request.prompts)) > FEW


def memory_of(request: pb.ScoreRequest) -> int:
    """Return the memory in bytes that a request takes until it is answered."""
    elements = sum(len(prompt.candidates) + len(prompt.continuations) for prompt in request.prompts)
    return (
        REQUEST_BYTE_MEMORY * request.ByteSize()
        + ELEMENT_MEMORY * elements
        + PROMPT_MEMORY * len(request.prompts)
    )


def memory_of_reply(response: pb.ScoreResponse) -> int:
    """Return about how many bytes of memory a reply takes: eight for each token that it tells."""
    told = 0
    for score in response.scores:
        told += len(score.candidate_ids) + len(score.top_token_ids)
        for scores in (score.own_tokens, *(each.tokens for each in score.continuations)):
            told += len(scores.token_ids) + len(scores.top_token_ids)
    return 8 * told


def _places(prompt: pb.Prompt) -> int:
    """Count token ids, with the most likely tokens that are told in the place of each."""
    own = len(prompt.token_ids.ids)
    continuations = sum(len(continuation.token_ids.ids) for continuation in prompt.continuations)
    told = prompt.top_tokens + 1
    return (own if prompt.WhichOneof("own_tokens") is None else own * told) + continuations * told
