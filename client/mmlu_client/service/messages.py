"""What goes to the server and comes back, free of protobuf."""

from __future__ import annotations

from dataclasses import dataclass

from mmlu_client.prompts.builder import Prompt


@dataclass(frozen=True)
class Request:
    """tokenize_ns: what building its prompts took. reference: whether the reference engine is asked.
    reuse_prefix: whether the server may take shared prefixes from an earlier prompt."""

    id: str
    prompts: tuple[Prompt, ...]
    tokenize_ns: int = 0
    reference: bool = False
    reuse_prefix: bool = False


@dataclass(frozen=True)
class Score:
    """logprobs: natural logarithms, in the candidates' order. top_token: the vocabulary's arg-max."""

    candidate_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_token: int
    top_logprob: float
    logical_tokens: int
    computed_tokens: int
    flops: int


@dataclass(frozen=True)
class Timing:
    """The server's, of the request, in nanoseconds."""

    tokenize: int
    queue: int
    assemble: int
    copy_in: int
    core: int
    copy_out: int
    total: int


@dataclass(frozen=True)
class Batch:
    """What the engine really ran: prompts, and tokens a prompt with padding.

    padding_tokens: of this request's prompts alone.
    """

    prompts: int
    padded_length: int
    padding_tokens: int


@dataclass(frozen=True)
class Reply:
    id: str
    scores: tuple[Score, ...]
    timing: Timing
    batch: Batch


@dataclass(frozen=True)
class Refusal:
    """code: the gRPC status by name. retry_after: seconds, None where the server does not say."""

    id: str
    code: str
    message: str
    retry_after: float | None
