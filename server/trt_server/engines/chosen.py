"""An engine that was chosen, the functions that make it, and what they pass to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trt_server.devices.device import Device
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.settings import Settings

if TYPE_CHECKING:
    from trt_server.engines.tensorrt.plan.prepared import PreparedPlan

# The largest batch of an engine whose batches take memory only when they run.
MAX_BATCH = 32


@dataclass(frozen=True)
class Prepared:
    """What an engine built, or found in the cache, before it starts.

    Attributes:
        what: A description of it.
        path: Where it is; None where there is nothing to keep.
        build_seconds: How long it took to build; 0 where it was in the cache.
        good_for: The devices that it can be used on, in words; empty: this one.
        plan: TensorRT's plan, which `make` and `layers` of the same engine choice load; None for the engines
            that have none.
    """

    what: str
    path: Path | None
    build_seconds: float
    good_for: str = ""
    plan: PreparedPlan | None = None


@dataclass(frozen=True)
class LayerList:
    """The layers that a plan runs, with their kernels, as the compiler describes them.

    Attributes:
        kind: The format, "json" or "txt".
    """

    text: str
    kind: str


MakeEngine = Callable[[Checkpoint, EngineLimits, Settings, Device, Prepared | None], Engine]
Prepare = Callable[[Checkpoint, EngineLimits, Settings], Prepared]
CheckMachine = Callable[[], None]
ReadLayers = Callable[[Checkpoint, EngineLimits, Settings, Prepared], LayerList]


@dataclass(frozen=True)
class EngineChoice:
    """An engine that was chosen, and the functions that make it.

    All functions raise StartError.

    Attributes:
        devices: One engine is made for each; empty where plans are only built for other machines.
        max_batch_size: The default of the setting.
        make: Makes an engine on a device, in the thread that will own it.
        prepare: Builds what `make` would build and keeps it in the cache, without loading it.
        prefix_cache_bytes: The default of the setting; None: this engine stores no prefixes.
        layers: Reads the layers of a plan; None where there is no plan.
        check_machine: Checks what `make` would, and only its library knows of this machine.
    """

    name: str
    precision: str
    reason: str
    devices: tuple[Device, ...]
    max_batch_size: int
    make: MakeEngine
    prepare: Prepare
    prefix_cache_bytes: int | None = None
    layers: ReadLayers | None = None
    check_machine: CheckMachine = lambda: None
