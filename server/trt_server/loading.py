"""From settings to engines that run: the checkpoint, the compiled engine, the reference beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from trt_server.batching import Batching
from trt_server.engine_worker import EngineWorker
from trt_server.engines.choice import EngineChoice, choose_engine, choose_reference
from trt_server.engines.engine import Engine, EngineDescription, PeakFlops
from trt_server.opened_model import OpenedModel, open_model
from trt_server.request_queue import RequestQueue
from trt_server.served_model import ServedModel
from trt_server.settings import Settings
from trt_server.tokenizer import CheckpointTokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lane:
    """One running engine and the queue it is fed from."""

    engine: EngineDescription
    requests: RequestQueue
    worker: EngineWorker

    @property
    def max_prefix_tokens(self) -> int:
        """The longest prefix that the engine can keep; 0: it keeps none."""
        return self.worker.prefixes.max_tokens if self.worker.prefixes is not None else 0


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
    opened = await asyncio.to_thread(open_model, settings, choice)
    compiled = await _start(choice, opened, settings, on_lost)
    reference = None
    if reference_choice is not None:
        reference = await _start(reference_choice, opened, settings, on_lost)
    return Loaded(_served_model(opened, choice, compiled, reference), compiled, reference)


async def _start(
    choice: EngineChoice, opened: OpenedModel, settings: Settings, on_lost: Callable[[str], None]
) -> Lane:
    requests = RequestQueue(opened.limits.max_queue_size)

    def make() -> Engine:
        return choice.make(opened.checkpoint, opened.engine_limits, settings)

    limits = opened.limits
    delay = settings.max_queue_delay_us / 1e6
    batching = Batching(limits.max_batch_size, limits.max_batch_tokens, delay)
    worker = EngineWorker(make, requests, batching, on_lost)
    return Lane(_with_peak(await worker.start(), settings.peak_flops), requests, worker)


def _served_model(
    opened: OpenedModel, choice: EngineChoice, compiled: Lane, reference: Lane | None
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
