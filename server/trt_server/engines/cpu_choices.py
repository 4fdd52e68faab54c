"""The engines on a CPU, as choices: OpenVINO and ONNX Runtime."""

from __future__ import annotations

import platform
import time
from functools import partial
from importlib.util import find_spec

from trt_server.devices.device import CpuDevice, Device
from trt_server.engines.chosen import MAX_BATCH, EngineChoice, Prepared
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.engines.refusals import refuse_devices, refuse_tf32
from trt_server.engines.tensorrt.presence import how_to_build_elsewhere
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.settings import Settings

_PREFIX_CACHE_BYTES = 1024**3


def cpu_choice(settings: Settings, reason: str) -> EngineChoice:
    """Choose OpenVINO where it is installed, which was measured to be faster on x86-64, else ONNX Runtime.

    Raises:
        StartError: The one that is chosen cannot run as asked.
    """
    if find_spec("openvino") is not None and platform.machine() in ("x86_64", "AMD64"):
        return openvino_choice(settings, reason)
    return onnxruntime_choice(settings, reason)


def onnxruntime_choice(settings: Settings, reason: str) -> EngineChoice:
    """Choose ONNX Runtime.

    Raises:
        StartError: It cannot run as asked.
    """
    refuse_devices(settings.devices, "--engine onnxruntime computes on the CPU")
    if settings.precision == "bf16":
        raise StartError(
            "onnxruntime computes in fp32 on a CPU: --precision bf16 is for --engine openvino, which "
            "pip install 'trt-server[openvino]' brings"
        )
    if settings.precision == "fp16":
        raise StartError(
            "onnxruntime computes in fp32 on a CPU: leave --precision off or ask for "
            f"fp32{_to_build_elsewhere(settings)}"
        )
    refuse_tf32(settings)
    return EngineChoice(
        "onnxruntime",
        "fp32",
        reason,
        (CpuDevice(),),
        MAX_BATCH,
        _make_onnxruntime,
        _prepare_weights,
        _PREFIX_CACHE_BYTES,
    )


def _make_onnxruntime(
    checkpoint: Checkpoint, limits: EngineLimits, settings: Settings, _: Device, __: Prepared | None
) -> Engine:
    from trt_server.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(checkpoint, limits, settings.threads, peak_flops=settings.peak_flops)


def openvino_choice(settings: Settings, reason: str) -> EngineChoice:
    """Choose OpenVINO.

    Raises:
        StartError: It is not installed, or cannot run as asked.
    """
    refuse_devices(settings.devices, "--engine openvino computes on the CPU")
    if find_spec("openvino") is None:
        raise StartError("the openvino engine needs OpenVINO: pip install 'trt-server[openvino]'")
    precision = settings.precision or "fp32"
    if precision == "fp16":
        raise StartError(
            "openvino computes in fp32 or bf16 on a CPU: leave --precision off or ask for "
            f"one{_to_build_elsewhere(settings)}"
        )
    refuse_tf32(settings)
    return EngineChoice(
        "openvino",
        precision,
        reason,
        (CpuDevice(),),
        MAX_BATCH,
        partial(_make_openvino, precision),
        _prepare_weights,
        _PREFIX_CACHE_BYTES,
        check_machine=partial(_check_openvino, precision),
    )


def _make_openvino(
    precision: str,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    settings: Settings,
    _: Device,
    __: Prepared | None,
) -> Engine:
    from trt_server.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(checkpoint, limits, precision, settings.threads, peak_flops=settings.peak_flops)


def _check_openvino(precision: str) -> None:
    # Every processor has fp32, and the library takes a while to load.
    if precision != "fp32":
        from trt_server.engines.openvino import check_precision

        check_precision(precision)


def _to_build_elsewhere(settings: Settings) -> str:
    """Return how to build for a GPU elsewhere, to those who have not asked for an engine on a CPU."""
    return how_to_build_elsewhere() if settings.engine == "auto" else ""


def _prepare_weights(checkpoint: Checkpoint, _: EngineLimits, __: Settings) -> Prepared:
    start = time.perf_counter()
    weights = weights_as(checkpoint, "float32")
    folder = next(iter(weights.values())).file.parent
    return Prepared("no plan; its weights are in", folder, time.perf_counter() - start)
