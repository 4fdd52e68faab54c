"""A request for completions: OpenAI's fields with vLLM's, checked, and as the contract's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from scoring.v1 import scoring_pb2 as pb

from trt_server.http.body import convert, unknown_field
from trt_server.http.errors import RequestError
from trt_server.http.generation_settings import (
    NEUTRAL,
    NEUTRAL_FOR_TOKEN,
    WITHOUT_EFFECT,
    check_generation,
)

# What 32 bits hold; whether the vocabulary, and the limits, have it is the service's to say.
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
TokenIds = list[Natural]
PromptSource = str | TokenIds
# Of one body, as OpenAI has it.
MAX_PROMPTS = 2048


class CompletionsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a body asks for, in its own names.

    Attributes:
        prompt: A text, token ids, or a list of either.
        model: Has to be the served one, where it is given.
        echo: Whether the reply has the prompt in it.
        logprobs: How many of the most likely tokens are told in each place of the reply, beside its own;
            None: no log-probabilities.
        max_tokens: How many tokens are generated, 0 or 1.
        temperature: 0, where a token is generated.
        logprob_token_ids: The tokens that are told in the generated token's place, in place of the likeliest.
        prompt_logprobs: How many of the most likely tokens are told in each place of the prompt; None: the
            reply has no `prompt_logprobs`.
        add_special_tokens: Whether a BOS comes before a text where the tokenizer's files ask for it.
        skip_special_tokens: Whether a special token that is generated is left out of the text.
        return_tokens_as_token_ids: Whether tokens are named `token_id:N`.
        return_token_ids: Whether the reply has the ids of its tokens.
        request_id: The caller's own name of the request.
    """

    prompt: str | list[Natural | str | TokenIds] | None = None
    model: str | None = None
    echo: bool | None = None
    logprobs: Natural | None = None
    max_tokens: int
    temperature: float | None = None
    logprob_token_ids: TokenIds | None = None
    prompt_logprobs: Natural | None = None
    add_special_tokens: bool = True
    skip_special_tokens: bool = True
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    request_id: str | None = None

    @property
    def prompts(self) -> Sequence[PromptSource]:
        """The prompts, one after the other.

        Raises:
            RequestError: There is none, or they are of several kinds.
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if not prompt:
            raise RequestError("prompt is empty: send a text, token ids, or a list of either", "prompt")
        kinds = set(map(type, prompt))
        if kinds == {int}:
            return [[each for each in prompt if isinstance(each, int)]]
        if len(kinds) > 1:
            raise RequestError("prompt is a list of several kinds: send texts only, or ids only", "prompt")
        return [each for each in prompt if not isinstance(each, int)]

    @property
    def scores_prompt(self) -> bool:
        """Whether the log-probabilities of the prompt's own tokens are asked for."""
        return bool(self.echo and self.logprobs is not None) or self.prompt_logprobs is not None

    @property
    def top_tokens(self) -> int:
        """How many of the most likely tokens the service is asked for."""
        asked = max(self.logprobs or 0, self.prompt_logprobs or 0)
        # The service is always asked for something; the generated token comes with anything.
        return asked if self.scores_prompt or self.logprob_token_ids else max(asked, 1)


def completions_request(fields: dict[str, Any]) -> CompletionsRequest:
    """Return what a body asks for.

    Raises:
        RequestError: A field is unknown, of a wrong type, or asks for what the server cannot do.
    """
    others = {*NEUTRAL, *NEUTRAL_FOR_TOKEN, *WITHOUT_EFFECT}
    taken = {name: value for name, value in fields.items() if name not in others}
    if unknown := sorted(taken.keys() - set(CompletionsRequest.__struct_fields__)):
        raise unknown_field(unknown[0])
    check_generation(fields)
    request = convert(taken, CompletionsRequest)
    _check_logprob_token_ids(request)
    if not (request.max_tokens or request.echo or request.prompt_logprobs is not None):
        raise RequestError(
            "max_tokens 0 without echo leaves nothing to reply: send max_tokens 1, or echo", "max_tokens"
        )
    return request


def _check_logprob_token_ids(request: CompletionsRequest) -> None:
    if request.logprob_token_ids is None:
        return
    why = None
    if not request.logprob_token_ids:
        why = "is empty: name at least one token, or leave it out"
    elif request.logprobs is None:
        why = "needs logprobs: send it too, as 0"
    elif not request.max_tokens:
        why = "is about the generated token: send max_tokens 1"
    if why:
        raise RequestError(f"logprob_token_ids {why}", "logprob_token_ids")


def score_requests(request: CompletionsRequest, id: str, max_batch_size: int) -> list[pb.ScoreRequest]:
    """Return the contract's requests for all prompts, in their order, with as many in each as may be.

    Args:
        request: What is asked for.
        id: The name of the requests.
        max_batch_size: Prompts of one request at most.

    Raises:
        RequestError: There are no prompts, too many, or of several kinds.
    """
    sources = request.prompts
    if len(sources) > MAX_PROMPTS:
        raise RequestError(
            f"prompt is a list of {len(sources)}, the limit is {MAX_PROMPTS}: send fewer at once", "prompt"
        )
    prompts = [_prompt(request, source) for source in sources]
    return [
        pb.ScoreRequest(id=id, prompts=prompts[start : start + max_batch_size])
        for start in range(0, len(prompts), max_batch_size)
    ]


def _prompt(request: CompletionsRequest, source: PromptSource) -> pb.Prompt:
    prompt = pb.Prompt(
        candidates=[pb.Candidate(token_id=token_id) for token_id in request.logprob_token_ids or ()],
        top_tokens=request.top_tokens,
    )
    if isinstance(source, str):
        prompt.text = source
        prompt.omit_special_tokens = not request.add_special_tokens
    else:
        prompt.token_ids.ids.extend(source)
    if request.scores_prompt:
        prompt.all_tokens = True
    return prompt
