"""The model that `--model` names, opened for an engine: its checkpoint, its tokenizer and its limits."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from trt_common.model.geometry import Geometry

from trt_server.engines.chosen import EngineChoice
from trt_server.engines.engine import EngineLimits
from trt_server.errors import StartError
from trt_server.loading.memory_need import check_memory
from trt_server.loading.served_model import Limits
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.model.files.checkpoint import Checkpoint, open_checkpoint
from trt_server.model.outline import ModelOutline, read_outline
from trt_server.model.source import ModelSource, resolve_model
from trt_server.settings import Settings

log = logging.getLogger(__name__)

# Longer than any five-shot prompt of MMLU. The memory that an engine sets aside grows with it.
DEFAULT_PROMPT_TOKENS = 4096


@dataclass(frozen=True)
class OpenedModel:
    """A checkpoint whose headers and tokenizer are read, and how much may be asked of it at once."""

    source: ModelSource
    checkpoint: Checkpoint
    tokenizer: CheckpointTokenizer
    limits: Limits

    @property
    def engine_limits(self) -> EngineLimits:
        """The largest batch that an engine will be asked to take, and what it may keep of prefixes."""
        limits = self.limits
        return EngineLimits(
            limits.max_prompt_tokens,
            limits.max_batch_size,
            limits.prefix_cache_bytes,
            limits.max_scored_positions,
        )


def open_model(
    settings: Settings, choice: EngineChoice, reference: EngineChoice | None = None
) -> OpenedModel:
    """Find the checkpoint, and read its headers and its tokenizer.

    Nothing is downloaded or made that will not fit into the memory of the engine and the reference.

    Raises:
        StartError: There is no such model, it cannot be read or does not fit, or the limits exceed it.
    """
    prefix_bytes = _prefix_cache_bytes(settings, choice)
    source = resolve_model(
        settings.model, choice.precision, lambda sizes: check_memory(sizes, prefix_bytes, choice, reference)
    )
    checkpoint = open_checkpoint(source.folder)
    prompt_tokens = _prompt_tokens(settings, source.model_id, checkpoint.geometry)
    batch_size = settings.max_batch_size or choice.max_batch_size
    limits = Limits(
        max_prompt_tokens=prompt_tokens,
        max_batch_size=batch_size,
        max_batch_tokens=settings.max_batch_tokens or batch_size * prompt_tokens,
        max_queue_size=settings.max_queue_size,
        stream_window=settings.stream_window,
        prefix_cache_bytes=prefix_bytes,
        max_request_bytes=settings.max_request_bytes,
        max_candidates=checkpoint.geometry.vocabulary_size,
        max_scored_positions=settings.max_scored_positions,
    )
    tokenizer = CheckpointTokenizer(checkpoint.folder)
    tokenizer.check()
    return OpenedModel(source, checkpoint, tokenizer, limits)


def look_at_model(
    settings: Settings, choice: EngineChoice, reference: EngineChoice | None = None
) -> ModelOutline:
    """Find what open_model would, without downloading, making or hashing weights.

    Raises:
        StartError: open_model would raise it too.
    """
    prefix_bytes = _prefix_cache_bytes(settings, choice)
    outline = read_outline(
        settings.model, choice.precision, lambda sizes: check_memory(sizes, prefix_bytes, choice, reference)
    )
    _prompt_tokens(settings, outline.model_id, outline.geometry)
    if outline.folder is not None:
        CheckpointTokenizer(outline.folder).check()
    return outline


def _prompt_tokens(settings: Settings, model_id: str, geometry: Geometry) -> int:
    """Return how many tokens a prompt may have.

    Raises:
        StartError: More are asked for than the model has positions.
    """
    positions, asked = geometry.max_positions, settings.max_prompt_tokens
    if asked is not None and asked > positions:
        raise StartError(
            f"--max-prompt-tokens {asked} is more than the {positions} positions of {model_id}: ask for fewer"
        )
    return asked or min(positions, DEFAULT_PROMPT_TOKENS)


def _prefix_cache_bytes(settings: Settings, choice: EngineChoice) -> int:
    asked = settings.prefix_cache_bytes
    if choice.prefix_cache_bytes is None:
        if asked:
            log.warning("the %s engine keeps no shared prefixes: --prefix-cache-bytes is 0", choice.name)
        return 0
    return choice.prefix_cache_bytes if asked is None else asked
