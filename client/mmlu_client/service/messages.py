"""What goes to the server and comes back, free of protobuf."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, get_type_hints

from mmlu_client.prompts.prompt import Prompt


@dataclass(frozen=True)
class Request:
    """What the server is asked in one message.

    Attributes:
        id: names the request in its answer.
        prompts: what is scored.
        tokenize_ns: how long building the prompts took, in nanoseconds.
        reference: whether the reference engine is asked.
        reuse_prefix: whether the server may reuse shared prefixes that it computed for an earlier prompt.
    """

    id: str
    prompts: tuple[Prompt, ...]
    tokenize_ns: int = 0
    reference: bool = False
    reuse_prefix: bool = False


@dataclass(frozen=True)
class ContinuationScore:
    """What the engine made of one continuation of a prompt.

    Attributes:
        logprobs: the natural-logarithm probability of each of its tokens.
        logprob: of all of it, the sum.
        is_greedy: whether each of its tokens is the most probable one of the whole vocabulary.
    """

    logprobs: tuple[float, ...]
    logprob: float
    is_greedy: bool


@dataclass(frozen=True)
class Score:
    """What the engine made of one prompt.

    Attributes:
        candidate_ids: the token ids that were asked for.
        logprobs: their natural-logarithm probabilities, in the same order; None for one that is none of the
            most likely tokens, of a server that tells of these alone.
        top_token: the most probable token id of the whole vocabulary.
        top_logprob: its natural-logarithm probability.
        logical_tokens: the prompt's length.
        computed_tokens: what of it was computed, without what a reused prefix saved; None: not told.
        flops: what the computation took, in floating-point operations; None: not known.
        continuations: those of the prompt, in the order in which they were asked for.
        own_logprobs: the natural-logarithm probabilities of the prompt's own tokens that were asked for.
        own_top_tokens: the most probable token id of the whole vocabulary in the place of each of these;
            empty where they were not asked for.
        least_told: where candidates have no log-probability: the least one that the server told, which theirs
            are not above.
    """

    candidate_ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    top_token: int
    top_logprob: float
    logical_tokens: int
    computed_tokens: int | None
    flops: int | None
    continuations: tuple[ContinuationScore, ...] = ()
    own_logprobs: tuple[float, ...] = ()
    own_top_tokens: tuple[int, ...] = ()
    least_told: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of the server's.

    Attributes:
        about: What happens in it.
        key: Its name among a request's stages, where that is not its field's.
    """

    about: str
    key: str = ""


@dataclass(frozen=True)
class Timing:
    """The nanoseconds of a request in each of the server's stages, in the order they happen.

    Where records and figures name the server's stages, they have the names from here.

    Attributes:
        total: All the server's time, with what no stage counts.
    """

    tokenize: Annotated[int, Stage("the server tokenizes text (prompts come as ids: 0)", "server_tokenize")]
    queue: Annotated[int, Stage("waits for the engine", "server_queue")]
    assemble: Annotated[int, Stage("prompts are padded into one batch")]
    copy_in: Annotated[int, Stage("to the device")]
    core: Annotated[int, Stage("the engine computes")]
    copy_out: Annotated[int, Stage("from the device")]
    total: int


# Field of Timing → the stage, with its key.
SERVER_STAGES = {
    name: replace(stage, key=stage.key or name)
    for name, kind in get_type_hints(Timing, include_extras=True).items()
    for stage in getattr(kind, "__metadata__", ())
}


@dataclass(frozen=True)
class Batch:
    """What the engine ran in the batch that a request was in.

    Attributes:
        prompts: how many, those of other requests included.
        padded_length: tokens a prompt, padding included, reused prefixes not.
        padding_tokens: of this request's prompts alone.
    """

    prompts: int
    padded_length: int
    padding_tokens: int


@dataclass(frozen=True)
class Reply:
    """The server's answer to a request.

    Attributes:
        id: the request's.
        scores: one for each of its prompts, in their order.
        timing: the server's stages; None where it does not tell them.
        batch: what the engine ran; None where the server does not tell.
    """

    id: str
    scores: tuple[Score, ...]
    timing: Timing | None
    batch: Batch | None


@dataclass(frozen=True)
class Refusal:
    """The server's answer to a request that it does not compute.

    Attributes:
        id: the request's.
        code: the gRPC status by name.
        message: why, for the person.
        retry_after: seconds after which the request may be sent again; None where the server does not say.
    """

    id: str
    code: str
    message: str
    retry_after: float | None
