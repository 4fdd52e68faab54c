"""TensorRT as a choice: on GPUs of this machine, or to build plans for GPUs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from trt_common.one_line import one_line

from trt_server.devices.device import Device
from trt_server.devices.gpu import Gpu
from trt_server.engines.chosen import EngineChoice, LayerList, Prepare, Prepared, ReadLayers
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, installed_flavour
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.settings import Settings

if TYPE_CHECKING:
    from trt_server.engines.tensorrt.plan.prepared import PreparedPlan
    from trt_server.engines.tensorrt.plan.target import PlanTarget

# A plan always reserves the memory of its largest batch, and batches need a profile of their own: with 1, a
# model of 7 B parameters and 2,048 positions should fit into 16 GiB in fp16.
_MAX_BATCH = 1
# A plan that stores prefixes is another plan, and reserves their memory: only on request.
_PREFIX_CACHE_BYTES = 0


def tensorrt_choice(settings: Settings, gpus: Sequence[Gpu], reason: str) -> EngineChoice:
    """Choose TensorRT on these GPUs, which are of one kind.

    Raises:
        StartError: It cannot run as asked.
    """
    precision, ordinal = _precision(settings), gpus[0].ordinal
    return _choice(
        precision,
        reason,
        tuple(gpu.device() for gpu in gpus),
        partial(_prepare_here, precision, ordinal),
        partial(_layers_here, precision, ordinal),
    )


def elsewhere_choice(settings: Settings, capabilities: tuple[str, ...]) -> EngineChoice:
    """Choose TensorRT-RTX to build plans for other machines' GPUs; it has no device to run on.

    Args:
        settings: How the program was started.
        capabilities: The GPUs' compute capabilities, such as "sm80".

    Raises:
        StartError: It cannot build for them here as asked.
    """
    if settings.engine not in ("auto", "tensorrt"):
        raise StartError(
            f"--target is for a plan, and --engine {settings.engine} has none: leave one of them off"
        )
    if settings.devices is not None:
        raise StartError("--devices names GPUs here and --target GPUs elsewhere: leave one of them off")
    precision = _precision(settings)
    target = _target_elsewhere(capabilities)
    return _choice(
        precision, f"a plan for {target}", (), partial(_prepare_for, precision, target), _layers_elsewhere
    )


def _precision(settings: Settings) -> str:
    precision = settings.precision or "fp16"
    if precision == "bf16":
        raise StartError("TensorRT computes in fp16 or fp32 here: --precision bf16 is for --engine openvino")
    if settings.threads:
        raise StartError("--threads is for engines on the CPU, and TensorRT computes on a GPU: leave it off")
    if settings.tf32 and precision != "fp32":
        raise StartError("--tf32 is a way to compute fp32 products: give --precision fp32 with it")
    return precision


def _choice(
    precision: str, reason: str, devices: tuple[Device, ...], prepare: Prepare, layers: ReadLayers
) -> EngineChoice:
    flavour = installed_flavour() or TENSORRT
    return EngineChoice(
        flavour.module,
        precision,
        reason,
        devices,
        _MAX_BATCH,
        partial(_make, precision),
        prepare,
        _PREFIX_CACHE_BYTES,
        layers,
    )


def _make(
    precision: str,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    settings: Settings,
    device: Device,
    prepared: Prepared | None,
) -> Engine:
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine

    plan = prepared.plan if prepared else None
    return TensorRtEngine(checkpoint, limits, precision, settings.tf32, device.ordinal, plan)


def _prepare_here(
    precision: str, ordinal: int, checkpoint: Checkpoint, limits: EngineLimits, settings: Settings
) -> Prepared:
    from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan

    return _prepared(prepare_plan(checkpoint, limits, precision, settings.tf32, ordinal))


def _layers_here(
    precision: str,
    ordinal: int,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    settings: Settings,
    prepared: Prepared,
) -> LayerList:
    from trt_server.engines.tensorrt.run.engine import TensorRtEngine

    engine = TensorRtEngine(checkpoint, limits, precision, settings.tf32, ordinal, prepared.plan)
    try:
        return LayerList(engine.layer_information(), "json")
    finally:
        engine.close()


def _target_elsewhere(capabilities: tuple[str, ...]) -> PlanTarget:
    """Return the target of other machines' GPUs.

    Raises:
        StartError: TensorRT-RTX is not there, is not the TensorRT that is used, or does not know them.
    """
    if TENSORRT.is_installed:
        raise StartError(
            "--target needs TensorRT-RTX, and here is TensorRT, which goes before it and builds on the "
            "device alone: use a Python without it"
        )
    if not TENSORRT_RTX.is_installed:
        raise StartError(
            "--target needs TensorRT-RTX, which builds without a GPU: pip install tensorrt-rtx-cu12"
        )
    try:
        from trt_server.engines.tensorrt.plan.capabilities import target_elsewhere
    except ImportError as error:
        raise StartError(f"TensorRT-RTX does not load ({one_line(error)}); install it again") from error
    return target_elsewhere(capabilities)


def _prepare_for(
    precision: str, target: PlanTarget, checkpoint: Checkpoint, limits: EngineLimits, settings: Settings
) -> Prepared:
    from trt_server.engines.tensorrt.plan.prepared import prepare_for

    return _prepared(prepare_for(target, checkpoint, limits, precision, settings.tf32, _no_memory))


def _no_memory(what: str) -> str:
    return f"this machine has too little memory for the build: {what} are needed"


def _layers_elsewhere(_: Checkpoint, __: EngineLimits, ___: Settings, prepared: Prepared) -> LayerList:
    return LayerList(prepared.plan.plan.layers if prepared.plan else "", "txt")


def _prepared(plan: PreparedPlan) -> Prepared:
    return Prepared("plan", plan.plan.path, plan.build_seconds, str(plan.recipe.target), plan)
