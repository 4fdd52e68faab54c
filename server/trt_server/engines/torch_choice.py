"""The engine in PyTorch as a choice: to serve, or as the reference beside a compiled engine."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from trt_server.devices.device import CpuDevice, Device
from trt_server.devices.gpu import named_gpus
from trt_server.engines.chosen import MAX_BATCH, EngineChoice, Prepared
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.engines.refusals import refuse_devices, refuse_tf32
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.settings import Settings


def torch_choice(settings: Settings, reason: str) -> EngineChoice:
    """Choose PyTorch to serve.

    Raises:
        StartError: It is not installed, or cannot run as asked.
    """
    refuse_tf32(settings)
    if settings.precision == "bf16":
        raise StartError(
            "the torch engine computes in fp16 or fp32: --precision bf16 is for --engine openvino"
        )
    return _choice(settings.precision, settings.devices, reason)


def torch_reference(settings: Settings, reason: str) -> EngineChoice:
    """Choose PyTorch as the reference, on one device.

    Raises:
        StartError: It is not installed, or there is no such device.
    """
    # One is enough to compare with, beside the first of the compiled engines.
    ordinals = None if settings.devices is None else settings.devices[:1]
    # What bf16 rounds is what it is compared for.
    precision = "fp32" if settings.precision == "bf16" else settings.precision
    return _choice(precision, ordinals, reason)


def _choice(precision: str | None, ordinals: tuple[int, ...] | None, reason: str) -> EngineChoice:
    if find_spec("torch") is None:
        raise StartError("the torch engine needs PyTorch: pip install 'trt-server[torch]'")
    from trt_server.engines.torch import visible_gpus

    gpus = visible_gpus()
    devices: tuple[Device, ...] = (CpuDevice(),)
    if gpus:
        devices = tuple(gpu.device() for gpu in named_gpus(gpus, ordinals))
    else:
        refuse_devices(ordinals, "PyTorch sees no GPU here")
    chosen = precision or ("fp16" if gpus else "fp32")
    return EngineChoice("torch", chosen, reason, devices, MAX_BATCH, partial(_make, chosen), _prepare_nothing)


def _make(
    precision: str,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    settings: Settings,
    device: Device,
    _: Prepared | None,
) -> Engine:
    from trt_server.engines.torch import TorchEngine

    return TorchEngine(
        checkpoint,
        limits,
        precision,
        settings.threads,
        device.ordinal,
        peak_flops=settings.peak_flops,
    )


def _prepare_nothing(_: Checkpoint, __: EngineLimits, ___: Settings) -> Prepared:
    return Prepared("no plan, nothing to build", None, 0.0)
