"""The choice of the engine, its precision and its devices, and the reason for it."""

from __future__ import annotations

from trt_server.devices.gpu import named_gpus
from trt_server.engines.chosen import EngineChoice
from trt_server.engines.cpu_choices import cpu_choice, onnxruntime_choice, openvino_choice
from trt_server.engines.tensorrt.choice import elsewhere_choice, tensorrt_choice
from trt_server.engines.tensorrt.presence import find_gpus, how_to_build_elsewhere
from trt_server.engines.torch_choice import torch_choice, torch_reference
from trt_server.errors import StartError
from trt_server.settings import Settings

_ASKED_FOR = "asked for"


def choose_engine(settings: Settings) -> EngineChoice:
    """Choose the engine that the settings ask for: TensorRT where it can run, one for the CPU elsewhere.

    Raises:
        StartError: The engine that was asked for cannot run here as asked.
    """
    if settings.engine == "torch":
        return torch_choice(settings, _ASKED_FOR)
    if settings.targets:
        return elsewhere_choice(settings, settings.targets)
    if settings.engine == "openvino":
        return openvino_choice(settings, _ASKED_FOR)
    if settings.engine == "onnxruntime":
        return onnxruntime_choice(settings, _ASKED_FOR)
    found = find_gpus()
    if isinstance(found, tuple):
        gpus = named_gpus(found, settings.devices)
        reason = _ASKED_FOR if settings.engine == "tensorrt" else "it and a device are there"
        return tensorrt_choice(settings, gpus, f"{reason}, {', '.join(gpu.name for gpu in gpus)}")
    if settings.engine == "tensorrt":
        raise StartError(f"--engine tensorrt cannot run here: {found.reason}{how_to_build_elsewhere()}")
    if settings.devices is not None:
        raise StartError(f"--devices names GPUs, and TensorRT cannot run here: {found.reason}")
    return cpu_choice(settings, f"on the CPU, TensorRT cannot run here: {found.reason}")


def choose_reference(settings: Settings) -> EngineChoice | None:
    """Choose the reference engine; None where the settings ask for none.

    Raises:
        StartError: The reference cannot run here, or is the served engine itself.
    """
    if settings.reference is None:
        return None
    if settings.engine == settings.reference:
        raise StartError(
            f"--reference {settings.reference} beside --engine {settings.engine} is the same engine twice: "
            "leave one off"
        )
    return torch_reference(settings, "asked for as the reference")
