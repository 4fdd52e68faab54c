"""From the settings to engines that run: the checkpoint, the compiled engine, and the reference."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from trt_common.version import version

from trt_server.devices.device import Device
from trt_server.devices.peak import given_peak
from trt_server.engines.choice import choose_engine, choose_reference
from trt_server.engines.chosen import EngineChoice
from trt_server.engines.engine import EngineDescription
from trt_server.errors import ScoringError
from trt_server.loading.opened_model import OpenedModel, open_model
from trt_server.loading.served_model import PromptLimits, ServedModel
from trt_server.scheduling.batching import Batching
from trt_server.scheduling.group import EngineGroup
from trt_server.scheduling.queue import RequestQueue
from trt_server.settings import BATCH_SECONDS, Settings
from trt_server.threads.background import in_background

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedEngine:
    """An engine, running once on each device, and the queue it is fed from.

    Attributes:
        description: Of the engine on one of the devices, or of all of them as one.
        devices: Those that it computes on.
        queue: Where its requests wait.
        group: The engines themselves, and their threads.
    """

    description: EngineDescription
    devices: tuple[Device, ...]
    queue: RequestQueue
    group: EngineGroup

    @property
    def prompt_limits(self) -> PromptLimits:
        """What a prompt may be, so that the engine on each of the devices takes it."""
        prefix_tokens = (0 if store is None else store.max_tokens for store in self.group.prefixes)
        return PromptLimits(min(prefix_tokens), self.group.max_candidates, self.group.max_scored_positions)


@dataclass(frozen=True)
class Loaded:
    """Everything that the service needs to answer.

    Attributes:
        served: What GetModel tells.
        compiled: The engine that answers where a request names none.
        reference: The framework's own forward pass; None where none was asked for.
    """

    served: ServedModel
    compiled: LoadedEngine
    reference: LoadedEngine | None

    @property
    def engines(self) -> list[LoadedEngine]:
        """The compiled engine, and the reference where there is one."""
        return [self.compiled] if self.reference is None else [self.compiled, self.reference]

    async def with_peaks_measured_again(self) -> Loaded:
        """Measure each measured peak once more; return the same with the largest peaks so far."""
        compiled = await _measured_again(self.compiled)
        reference = self.reference and await _measured_again(self.reference)
        served = replace(
            self.served, engine=compiled.description, reference=reference.description if reference else None
        )
        return Loaded(served, compiled, reference)


async def _measured_again(engine: LoadedEngine) -> LoadedEngine:
    """Return the engine with its largest peak so far.

    It is as it was where its peak is not a measured one, or cannot be measured any more.
    """
    if engine.description.peak.measured is None:
        return engine
    try:
        peak = await engine.group.measure_peak()
    except ScoringError as error:
        log.info("the peak of %s is what it was: %s", engine.description.name, error)
        return engine
    return replace(engine, description=replace(engine.description, peak=peak))


async def load(
    settings: Settings, on_batch: Callable[[str, int], None], on_lost: Callable[[str], None]
) -> Loaded:
    """Open the model, make its engines and warm them up.

    Args:
        settings: How the server was started.
        on_batch: Called in any thread for each batch that was computed, with the engine's name and the number
            of prompts in the batch.
        on_lost: Called on the event loop with the reason when one of the engines has failed for good.

    Raises:
        StartError: The model cannot be opened, or an engine cannot start.
    """
    # Now, because a checkout may move on while the server runs.
    code = await in_background(version)
    # These import libraries, which takes seconds.
    choice = await in_background(choose_engine, settings)
    reference_choice = await in_background(choose_reference, settings)
    log.info("engine %s, %s: %s", choice.name, choice.precision, choice.reason)
    opened = await in_background(open_model, settings, choice, reference_choice)
    compiled = await _start(choice, opened, settings, on_batch, on_lost)
    reference = None
    if reference_choice is not None:
        # A peak that is given is that of the compiled engine.
        is_alike = _computes_like(reference_choice, choice, settings)
        of_reference = settings if is_alike else replace(settings, peak_flops=None)
        reference = await _start(reference_choice, opened, of_reference, on_batch, on_lost)
    return Loaded(_served_model(opened, choice, compiled, reference, code), compiled, reference)


async def _start(
    choice: EngineChoice,
    opened: OpenedModel,
    settings: Settings,
    on_batch: Callable[[str, int], None],
    on_lost: Callable[[str], None],
) -> LoadedEngine:
    limits = opened.limits
    queue = RequestQueue(limits.max_queue_size)
    batching = Batching(
        limits.max_batch_size,
        limits.max_batch_tokens,
        settings.max_queue_delay_us / 1e6,
        max_row_tokens=limits.max_prompt_tokens,
        max_seconds=BATCH_SECONDS if settings.max_batch_tokens is None else None,
    )
    what = opened.checkpoint, opened.engine_limits, settings
    start, prepared = time.perf_counter(), None
    if len(choice.devices) > 1:
        # Once for all devices, which then load it at the same time.
        prepared = await in_background(choice.prepare, *what)
    prepare_seconds = time.perf_counter() - start
    make = [partial(choice.make, *what, device, prepared) for device in choice.devices]
    labels = [device.label for device in choice.devices]
    group = EngineGroup(make, labels, queue, batching, partial(on_batch, choice.name), on_lost)
    each = [_with_peak(description, settings.peak_flops) for description in await group.start()]
    description = each[0] if prepared is None else _together(each, prepare_seconds - prepared.build_seconds)
    return LoadedEngine(description, choice.devices, queue, group)


def _together(engines: Sequence[EngineDescription], found_seconds: float) -> EngineDescription:
    """Describe equal engines as one. Its peak is that of one device, as core seconds are counted on each.

    Args:
        engines: One on each device.
        found_seconds: What it took to find what they share, before they loaded it at the same time. The time
            of its build is not in it.
    """
    first, count = engines[0], len(engines)
    return replace(
        first,
        device=f"{count} × {first.device}",
        peak=replace(first.peak, source=f"{first.peak.source}, each of {count} devices"),
        load_seconds=found_seconds + max(engine.load_seconds for engine in engines),
        build_seconds=max(engine.build_seconds for engine in engines),
    )


def _served_model(
    opened: OpenedModel,
    choice: EngineChoice,
    compiled: LoadedEngine,
    reference: LoadedEngine | None,
    code: str,
) -> ServedModel:
    checkpoint = opened.checkpoint
    return ServedModel(
        id=opened.source.model_id,
        architecture=checkpoint.architecture,
        fingerprint=checkpoint.fingerprint,
        geometry=checkpoint.geometry,
        notice=opened.source.notice,
        engine=compiled.description,
        reference=reference.description if reference else None,
        devices=choice.devices,
        limits=replace(
            opened.limits,
            max_scored_positions=compiled.group.max_scored_positions,
            max_batch_tokens=compiled.group.batching.max_tokens,
        ),
        tokenizer=opened.tokenizer,
        server_version=code,
    )


def _computes_like(reference: EngineChoice, compiled: EngineChoice, settings: Settings) -> bool:
    """Whether both compute on the same device in the same precision, and so have the same peak."""
    same_device = reference.devices[0].label == compiled.devices[0].label
    return same_device and reference.precision == compiled.precision and not settings.tf32


def _with_peak(description: EngineDescription, flops_per_second: float | None) -> EngineDescription:
    if flops_per_second is None:
        return description
    return replace(description, peak=given_peak(flops_per_second))
