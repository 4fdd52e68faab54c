"""What a running server holds: everything GetModel tells and every check needs."""

from __future__ import annotations

from dataclasses import dataclass

from trt_server.devices.device import Device
from trt_server.engines.engine import EngineDescription
from trt_server.loading.tokenizer import CheckpointTokenizer
from trt_server.model.geometry import Geometry


@dataclass(frozen=True)
class Limits:
    max_prompt_tokens: int
    max_batch_size: int
    max_batch_tokens: int
    max_queue_size: int
    stream_window: int
    prefix_cache_bytes: int


@dataclass(frozen=True)
class PromptLimits:
    """What one engine takes of a prompt. max_prefix_tokens: it keeps no longer prefix; 0: none at all.
    max_candidates None: as many as are asked for."""

    max_prefix_tokens: int
    max_candidates: int | None


@dataclass(frozen=True)
class ServedModel:
    """notice: what a reader of this model's accuracy has to know; empty: nothing. devices: those that the
    compiled engine computes on."""

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
