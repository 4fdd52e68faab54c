"""From settings to engines that run: the checkpoint, the compiled engine, the reference beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from trt_server.engine_worker import EngineWorker
from trt_server.engines.choice import EngineChoice, choose_engine, choose_reference
from trt_server.engines.engine import EngineDescription, EngineLimits, PeakFlops
from trt_server.errors import StartError
from trt_server.model.checkpoint import Checkpoint, open_checkpoint
from trt_server.model.source import ModelSource, resolve_model
from trt_server.request_queue import RequestQueue
from trt_server.served_model import Limits, ServedModel
from trt_server.settings import Settings
from trt_server.tokenizer import CheckpointTokenizer

log = logging.getLogger(__name__)

# Longer than any prompt of MMLU's 5 shots; what an engine sets aside grows with it.
DEFAULT_PROMPT_TOKENS = 4096


@dataclass(frozen=True)
class Lane:
    """One running engine and the queue it is fed from."""

    engine: EngineDescription
    requests: RequestQueue
    worker: EngineWorker


@dataclass(frozen=True)
class Loaded:
    """Everything a service needs to answer. reference: None where none was asked for."""

    served: ServedModel
    compiled: Lane
    reference: Lane | None

    @property
    def lanes(self) -> list[Lane]:
        return [self.compiled] if self.reference is None else [self.compiled, self.reference]


async def load(settings: Settings, on_lost: Callable[[str], None]) -> Loaded:
    """Open the model, make its engines and warm them up. Raises StartError.

    `on_lost` is called when one of the engines has failed for good.
    """
    choice, reference_choice = choose_engine(settings), choose_reference(settings)
    log.info("engine %s, %s: %s", choice.name, choice.precision, choice.reason)
    opened = await asyncio.to_thread(_open, settings, choice)
    compiled = await _start(choice, opened, settings, on_lost)
    reference = None
    if reference_choice is not None:
        reference = await _start(reference_choice, opened, settings, on_lost)
    return Loaded(_served_model(opened, choice, compiled, reference), compiled, reference)


@dataclass(frozen=True)
class _Opened:
    source: ModelSource
    checkpoint: Checkpoint
    limits: Limits


def _open(settings: Settings, choice: EngineChoice) -> _Opened:
    source = resolve_model(settings.model, choice.precision)
    checkpoint = open_checkpoint(source.folder)
    positions = checkpoint.geometry.max_positions
    asked = settings.max_prompt_tokens
    if asked is not None and asked > positions:
        raise StartError(
            f"--max-prompt-tokens {asked} is more than the {positions} positions of "
            f"{source.model_id}: ask for fewer"
        )
    limits = Limits(
        max_prompt_tokens=asked or min(positions, DEFAULT_PROMPT_TOKENS),
        max_batch_size=settings.max_batch_size,
        max_queue_size=settings.max_queue_size,
        stream_window=settings.stream_window,
    )
    return _Opened(source, checkpoint, limits)


async def _start(
    choice: EngineChoice, opened: _Opened, settings: Settings, on_lost: Callable[[str], None]
) -> Lane:
    limits = EngineLimits(opened.limits.max_prompt_tokens, opened.limits.max_batch_size)
    requests = RequestQueue(opened.limits.max_queue_size)
    worker = EngineWorker(lambda: choice.make(opened.checkpoint, limits, settings), requests, on_lost)
    return Lane(_with_peak(await worker.start(), settings.peak_flops), requests, worker)


def _served_model(
    opened: _Opened, choice: EngineChoice, compiled: Lane, reference: Lane | None
) -> ServedModel:
    checkpoint = opened.checkpoint
    return ServedModel(
        id=opened.source.model_id,
        architecture=checkpoint.architecture,
        fingerprint=checkpoint.fingerprint,
        geometry=checkpoint.geometry,
        notice=opened.source.notice,
        engine=compiled.engine,
        reference=reference.engine if reference else None,
        device=choice.device,
        limits=opened.limits,
        tokenizer=CheckpointTokenizer(checkpoint.folder),
    )


def _with_peak(description: EngineDescription, flops_per_second: float | None) -> EngineDescription:
    if flops_per_second is None:
        return description
    return replace(description, peak=PeakFlops(flops_per_second, "given with --peak-flops"))
