"""Which engine serves, in which precision, on which device, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from trt_server.device import CpuDevice, Device
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.errors import StartError
from trt_server.model.checkpoint import Checkpoint
from trt_server.settings import Settings

MakeEngine = Callable[[Checkpoint, EngineLimits, Settings], Engine]


@dataclass(frozen=True)
class EngineChoice:
    """`make` is called in the thread that will own the engine, and raises StartError."""

    name: str
    precision: str
    reason: str
    device: Device
    make: MakeEngine


def choose_engine(settings: Settings) -> EngineChoice:
    """Raises StartError where the engine that was asked for cannot run here as asked."""
    if settings.engine == "torch":
        return _torch(settings.precision, "asked for")
    if settings.precision == "fp16":
        raise StartError("onnxruntime computes in fp32 on a CPU: leave --precision off or ask for fp32")
    reason = (
        "asked for" if settings.engine == "onnxruntime" else "the CPU engine, no GPU engine in this version"
    )
    return EngineChoice("onnxruntime", "fp32", reason, CpuDevice(), _make_onnxruntime)


def choose_reference(settings: Settings) -> EngineChoice | None:
    """None where no reference was asked for. Raises StartError."""
    if settings.reference is None:
        return None
    if settings.engine == settings.reference:
        raise StartError(
            f"--reference {settings.reference} beside --engine {settings.engine} is the same engine twice: "
            "leave one off"
        )
    return _torch(settings.precision, "asked for as the reference")


def _make_onnxruntime(checkpoint: Checkpoint, limits: EngineLimits, settings: Settings) -> Engine:
    from trt_server.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(checkpoint, limits, settings.threads)


def _torch(precision: str | None, reason: str) -> EngineChoice:
    if find_spec("torch") is None:
        raise StartError("the torch engine needs PyTorch: pip install 'trt-server[torch]'")
    import torch

    on_gpu = torch.cuda.is_available()
    chosen = precision or ("fp16" if on_gpu else "fp32")

    def make(checkpoint: Checkpoint, limits: EngineLimits, settings: Settings) -> Engine:
        from trt_server.engines.torch import TorchEngine

        return TorchEngine(checkpoint, limits, chosen, settings.threads)

    return EngineChoice("torch", chosen, reason, CpuDevice(), make)
