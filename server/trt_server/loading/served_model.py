"""What a running server holds: everything that GetModel tells and that requests are checked against."""

from __future__ import annotations

from dataclasses import dataclass

from trt_common.model.geometry import Geometry

from trt_server.devices.device import Device
from trt_server.engines.engine import EngineDescription
from trt_server.loading.tokenizer import CheckpointTokenizer

# Bytes of a request's id.
MAX_ID_BYTES = 256
# Candidates and continuations of one request that are texts: each is tokenized, with the end of its prompt.
MAX_APPENDED_TEXTS = 4096
# Continuations of one request: each is put in its place in a row.
MAX_CONTINUATIONS = 4096
# No vocabulary that is in use has a longer token: a text that has more bytes than this for each token that a
# prompt may have is too long, and is not tokenized to see that.
MAX_TOKEN_BYTES = 128


@dataclass(frozen=True)
class Limits:
    """How much may be asked of the server.

    Attributes:
        max_prompt_tokens: Of one prompt.
        max_batch_size: Prompts in one batch, and in one request.
        max_batch_tokens: Tokens in one batch, padding included.
        max_queue_size: Requests that wait for one engine.
        stream_window: Unanswered requests of one stream.
        prefix_cache_bytes: Memory that shared prefixes may take on each device; 0: none are kept.
        max_request_bytes: Of one request's message, uncompressed, or of the body of one over HTTP.
        max_candidates: Candidates and continuations of one prompt: as many as the vocabulary has tokens.
        max_scored_positions: Of one request; None: any number.
    """

    max_prompt_tokens: int
    max_batch_size: int
    max_batch_tokens: int
    max_queue_size: int
    stream_window: int
    prefix_cache_bytes: int
    max_request_bytes: int
    max_candidates: int
    max_scored_positions: int | None = None

    @property
    def max_text_bytes(self) -> int:
        """Of a prompt's text and the longest text that is appended to it."""
        return min(MAX_TOKEN_BYTES * self.max_prompt_tokens, self.max_request_bytes)


@dataclass(frozen=True)
class PromptLimits:
    """What one engine takes of a request.

    Attributes:
        max_prefix_tokens: It keeps no longer prefix; 0: none at all.
        max_candidates: Of a prompt, its continuations counted; None: any number.
        max_scored_positions: Places whose next token is asked for; None: any number.
    """

    max_prefix_tokens: int
    max_candidates: int | None
    max_scored_positions: int | None


@dataclass(frozen=True)
class ServedModel:
    """The model, its engines and their limits.

    Attributes:
        id: What the model is called.
        architecture: As the checkpoint's configuration names it.
        fingerprint: Of the configuration and the weights.
        geometry: The model's sizes.
        notice: What a reader of this model's accuracy has to know; empty: nothing.
        engine: The compiled engine.
        reference: The reference; None where none is loaded.
        devices: Those that the compiled engine computes on.
        limits: How much may be asked.
        tokenizer: The checkpoint's.
        server_version: That of the code at the process's start, with its commit.
    """

    id: str
    architecture: str
    fingerprint: str
    geometry: Geometry
    notice: str
    engine: EngineDescription
    reference: EngineDescription | None
    devices: tuple[Device, ...]
    limits: Limits
    tokenizer: CheckpointTokenizer
    server_version: str
