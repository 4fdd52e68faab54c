"""The contract's requests: checked, tokenized where they are text, and as prompts that an engine can run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scoring.v1 import scoring_pb2 as pb

from trt_server.engines.engine import MAX_TOP_TOKENS
from trt_server.errors import InvalidRequestError, OutOfRangeError
from trt_server.loading.served_model import PromptLimits
from trt_server.loading.text_prompt import TextPrompt
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.rpc.request_size import RequestBounds
from trt_server.scheduling.prompt import TokenPrompt
from trt_server.threads.step_threads import Steps

TokenIds: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True)
class RequestDecoder:
    """Turns a ScoreRequest into prompts that an engine can run, or says why it cannot.

    Attributes:
        vocabulary_size: Of the model.
        bounds: Of a request.
        tokenizer: The checkpoint's, for prompts that are sent as text.
    """

    vocabulary_size: int
    bounds: RequestBounds
    tokenizer: CheckpointTokenizer

    def decode(self, request: pb.ScoreRequest, engine: PromptLimits) -> Steps[list[TokenPrompt]]:
        """Return the prompts, for an engine with these limits, in a step or more for each.

        Of a prefix that the engine cannot keep nothing is reused. Text takes a while, as it is tokenized.

        Args:
            request: One that is within its bounds.
            engine: What the engine takes.

        Raises:
            InvalidRequestError: A prompt is not one that the engine can run.
            OutOfRangeError: It is too long, or too many positions are asked for.
            NoTokenizerError: It is text, and the model has no tokenizer.
        """
        if not request.allow_prefix_reuse:
            engine = replace(engine, max_prefix_tokens=0)
        prompts: list[TokenPrompt] = []
        appended = 0
        for number, prompt in enumerate(request.prompts):
            texts = _appended_texts(number, prompt)
            appended += len(texts)
            self.bounds.check_appended(appended)
            prompts.append((yield from self._prompt(number, prompt, texts, engine)))
            yield
        _check_positions(prompts, engine.max_scored_positions)
        return prompts

    def _prompt(
        self, number: int, prompt: pb.Prompt, texts: list[str], engine: PromptLimits
    ) -> Steps[TokenPrompt]:
        token_ids, following = yield from self._tokens(number, prompt, texts)
        if not len(token_ids):
            raise InvalidRequestError(f"prompt {number} is empty: send at least one token")
        if prompt.shared_prefix_tokens > len(token_ids):
            raise InvalidRequestError(
                f"prompt {number} names a shared prefix of {prompt.shared_prefix_tokens} tokens "
                f"and has {len(token_ids)}: name at most as many"
            )
        _check_asks(number, prompt)
        own_tokens = _own_tokens(number, prompt, len(token_ids))
        # A token before one that scores is always computed.
        reusable = min(prompt.shared_prefix_tokens, len(token_ids) - 1 - own_tokens)
        # In the order of _appended_texts.
        ids_of_texts = iter(following)
        scored = TokenPrompt(
            token_ids,
            self._candidates(number, prompt, ids_of_texts),
            self._continuations(number, prompt, ids_of_texts),
            own_tokens,
            min(prompt.top_tokens, self.vocabulary_size),
            reusable if reusable <= engine.max_prefix_tokens else 0,
        )
        self.bounds.check_length(number, len(token_ids), scored.longest_text - len(token_ids))
        return scored

    def _tokens(
        self, number: int, prompt: pb.Prompt, texts: list[str]
    ) -> Steps[tuple[TokenIds, list[TokenIds]]]:
        """Return the prompt's tokens, and those of each text that is appended to it."""
        if prompt.WhichOneof("content") != "text":
            return self._ids(f"prompt {number}", prompt.token_ids.ids), []
        _check_asks(number, prompt)
        self.bounds.check_text(number, prompt.text, texts)
        text = TextPrompt(self.tokenizer, prompt.text, special=not prompt.omit_special_tokens)
        self.bounds.check_length(number, len(text.token_ids), 0)
        following: list[TokenIds] = []
        for found in text.following(texts):
            following += found
            yield
        return text.token_ids, following

    def _candidates(self, number: int, prompt: pb.Prompt, of_texts: Iterable[TokenIds]) -> TokenIds:
        of_texts = iter(of_texts)
        ids = [
            int(next(of_texts)[0]) if candidate.WhichOneof("value") == "text" else candidate.token_id
            for candidate in prompt.candidates
        ]
        return self._ids(f"the candidates of prompt {number}", ids)

    def _continuations(self, number: int, prompt: pb.Prompt, of_texts: Iterable[TokenIds]) -> list[TokenIds]:
        of_texts = iter(of_texts)
        found = [
            next(of_texts)
            if continuation.WhichOneof("content") == "text"
            else self._ids(f"a continuation of prompt {number}", continuation.token_ids.ids)
            for continuation in prompt.continuations
        ]
        if not all(map(len, found)):
            raise InvalidRequestError(
                f"prompt {number} has an empty continuation: give each at least one token"
            )
        return found

    def _ids(self, what: str, ids: Sequence[int]) -> TokenIds:
        array = np.array(ids, dtype=np.int64)
        if len(array) and int(array.max()) >= self.vocabulary_size:
            raise InvalidRequestError(
                f"token id {int(array.max())} in {what} is outside the vocabulary of {self.vocabulary_size}: "
                "is it another model's tokenizer?"
            )
        return array.astype(np.int32)


def has_text(request: pb.ScoreRequest) -> bool:
    """Return whether anything of the request has to be tokenized."""
    return any(prompt.WhichOneof("content") == "text" for prompt in request.prompts)


def _appended_texts(number: int, prompt: pb.Prompt) -> list[str]:
    """Return the texts of candidates, then those of continuations.

    Raises:
        InvalidRequestError: A candidate is empty, or one is a text and the prompt is not.
    """
    kinds = [candidate.WhichOneof("value") for candidate in prompt.candidates]
    if None in kinds:
        raise InvalidRequestError(f"prompt {number} has an empty candidate: give its token_id or text")
    candidates = [each.text for each, kind in zip(prompt.candidates, kinds, strict=True) if kind == "text"]
    continuations = [each.text for each in prompt.continuations if each.WhichOneof("content") == "text"]
    if (candidates or continuations) and prompt.WhichOneof("content") != "text":
        what = "candidate" if candidates else "continuation"
        raise InvalidRequestError(
            f"prompt {number} is token ids and has a {what} in text: send that as token ids too"
        )
    return candidates + continuations


def _check_asks(number: int, prompt: pb.Prompt) -> None:
    asks = prompt.candidates or prompt.continuations or prompt.WhichOneof("own_tokens") or prompt.top_tokens
    if not asks:
        raise InvalidRequestError(
            f"prompt {number} has no candidates and asks for nothing else: send at least one next token, a "
            "continuation, or ask for its own tokens or the most likely ones"
        )
    if prompt.top_tokens > MAX_TOP_TOKENS:
        raise InvalidRequestError(
            f"prompt {number} asks for the {prompt.top_tokens} most likely tokens, the limit is "
            f"{MAX_TOP_TOKENS}: ask for fewer"
        )


def _own_tokens(number: int, prompt: pb.Prompt, tokens: int) -> int:
    """How many of the prompt's last tokens are scored."""
    if prompt.WhichOneof("own_tokens") == "all_tokens":
        return tokens - 1 if prompt.all_tokens else 0
    if prompt.last_tokens >= tokens:
        raise InvalidRequestError(
            f"prompt {number} has {tokens} tokens and asks for its last {prompt.last_tokens}: nothing comes "
            "before the first, ask for all_tokens or for fewer"
        )
    return prompt.last_tokens


def _check_positions(prompts: Sequence[TokenPrompt], most: int | None) -> None:
    asked = sum(prompt.scored_positions for prompt in prompts)
    if most is not None and asked > most:
        raise OutOfRangeError(
            f"the request asks for {asked} positions, the limit is {most}: ask for fewer tokens at once, or "
            "start the server with a larger --max-scored-positions"
        )
