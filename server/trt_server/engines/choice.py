"""The choice of the engine, its precision and its devices, and the reason for it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_common.one_line import one_line

from trt_server.devices.device import CpuDevice, Device
from trt_server.devices.nvml import gpu_device
from trt_server.engines.engine import Engine, EngineLimits
from trt_server.engines.tensorrt.flavour import TENSORRT, TENSORRT_RTX, installed_flavour
from trt_server.engines.tensorrt.presence import Gpu, find_gpus
from trt_server.errors import StartError
from trt_server.model.files.checkpoint import Checkpoint
from trt_server.model.files.conversion import weights_as
from trt_server.settings import Settings

if TYPE_CHECKING:
    from trt_server.engines.tensorrt.plan.prepared import PreparedPlan

# A batch takes memory only when it runs.
_MAX_BATCH = 32
# A plan always reserves the memory of its largest batch, and batches need a profile of their own: with 1, a
# model of 7 B parameters and 2,048 positions should fit into 16 GiB in fp16.
_TENSORRT_MAX_BATCH = 1
# A plan that stores prefixes is another plan, and reserves their memory: only on request.
_TENSORRT_PREFIX_CACHE_BYTES = 0
_PREFIX_CACHE_BYTES = 1024**3


@dataclass(frozen=True)
class Prepared:
    """What an engine built, or found in the cache, before it starts.

    Attributes:
        what: A description of it.
        path: Where it is; None where there is nothing to keep.
        build_seconds: How long it took to build; 0 where it was in the cache.
        good_for: The devices that it can be used on, in words; empty: this one.
        plan: What `make` and `layers` of the same engine choice take.
    """

    what: str
    path: Path | None
    build_seconds: float
    good_for: str = ""
    plan: Any = None


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


def choose_engine(settings: Settings) -> EngineChoice:
    """Choose the engine that the settings ask for: TensorRT where it can run, one for the CPU elsewhere.

    Raises:
        StartError: The engine that was asked for cannot run here as asked.
    """
    if settings.engine == "torch":
        _refuse_tf32(settings)
        if settings.precision == "bf16":
            raise StartError(
                "the torch engine computes in fp16 or fp32: --precision bf16 is for --engine openvino"
            )
        return _torch(settings.precision, settings.threads, settings.devices, "asked for")
    if settings.targets:
        return _tensorrt_elsewhere(settings, settings.targets)
    if settings.engine == "openvino":
        _refuse_devices(settings.devices, "--engine openvino computes on the CPU")
        return _openvino(settings, "asked for")
    if settings.engine == "onnxruntime":
        _refuse_devices(settings.devices, "--engine onnxruntime computes on the CPU")
        return _onnxruntime(settings, "asked for")
    found = find_gpus()
    if isinstance(found, tuple):
        gpus = _named(found, settings.devices)
        reason = "asked for" if settings.engine == "tensorrt" else "it and a device are there"
        return _tensorrt(settings, gpus, f"{reason}, {', '.join(gpu.name for gpu in gpus)}")
    if settings.engine == "tensorrt":
        raise StartError(f"--engine tensorrt cannot run here: {found.reason}{_how_to_build_elsewhere()}")
    if settings.devices is not None:
        raise StartError(f"--devices names GPUs, and TensorRT cannot run here: {found.reason}")
    return _on_cpu(settings, f"on the CPU, TensorRT cannot run here: {found.reason}")


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
    # One is enough to compare with, beside the first of the compiled engines.
    devices = None if settings.devices is None else settings.devices[:1]
    # What bf16 rounds is what it is compared for.
    precision = "fp32" if settings.precision == "bf16" else settings.precision
    return _torch(precision, settings.threads, devices, "asked for as the reference")


def _named(gpus: Sequence[Gpu], ordinals: tuple[int, ...] | None) -> tuple[Gpu, ...]:
    """Return the GPUs that --devices names, or the first GPU where it was not given.

    Raises:
        StartError: A GPU is not there, or they are of different kinds.
    """
    shown = {gpu.ordinal: gpu for gpu in gpus}
    for ordinal in ordinals or ():
        if ordinal not in shown:
            there = ", ".join(f"{gpu.ordinal} ({gpu.name})" for gpu in gpus)
            raise StartError(f"--devices: there is no device {ordinal}; CUDA shows {there}")
    named = tuple(shown[ordinal] for ordinal in ordinals or (0,))
    for gpu in named[1:]:
        if gpu.name != named[0].name:
            first, other = (f"{each.ordinal} ({each.name})" for each in (named[0], gpu))
            raise StartError(
                f"--devices: {first} and {other} are not alike, and devices behind one queue share a plan "
                "and a peak: start a server for each kind"
            )
    return named


def _tensorrt(settings: Settings, gpus: Sequence[Gpu], reason: str) -> EngineChoice:
    precision = _tensorrt_precision(settings)
    devices = tuple(gpu_device(gpu.name, gpu.pci_bus_id, gpu.ordinal) for gpu in gpus)

    def prepare(checkpoint: Checkpoint, limits: EngineLimits, settings: Settings) -> Prepared:
        from trt_server.engines.tensorrt.run.plan_for_device import prepare_plan

        return _prepared(prepare_plan(checkpoint, limits, precision, settings.tf32, gpus[0].ordinal))

    def layers(checkpoint: Checkpoint, limits: EngineLimits, settings: Settings, plan: Prepared) -> LayerList:
        from trt_server.engines.tensorrt.run.engine import TensorRtEngine

        ordinal, prepared = gpus[0].ordinal, plan.plan
        engine = TensorRtEngine(checkpoint, limits, precision, settings.tf32, ordinal, prepared)
        try:
            return LayerList(engine.layer_information(), "json")
        finally:
            engine.close()

    return _tensorrt_choice(precision, reason, devices, prepare, layers)


def _tensorrt_elsewhere(settings: Settings, capabilities: tuple[str, ...]) -> EngineChoice:
    """Return a choice that builds plans for other machines' GPUs, and has no device to run on."""
    if settings.engine not in ("auto", "tensorrt"):
        raise StartError(
            f"--target is for a plan, and --engine {settings.engine} has none: leave one of them off"
        )
    if settings.devices is not None:
        raise StartError("--devices names GPUs here and --target GPUs elsewhere: leave one of them off")
    precision = _tensorrt_precision(settings)
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
        from trt_server.engines.tensorrt.plan.prepared import prepare_for
    except ImportError as error:
        raise StartError(f"TensorRT-RTX does not load ({one_line(error)}); install it again") from error
    target = target_elsewhere(capabilities)

    def no_memory(what: str) -> str:
        return f"this machine has too little memory for the build: {what} are needed"

    def prepare(checkpoint: Checkpoint, limits: EngineLimits, settings: Settings) -> Prepared:
        return _prepared(prepare_for(target, checkpoint, limits, precision, settings.tf32, no_memory))

    def layers(_: Checkpoint, __: EngineLimits, ___: Settings, plan: Prepared) -> LayerList:
        prepared: PreparedPlan = plan.plan
        return LayerList(prepared.plan.layers, "txt")

    return _tensorrt_choice(precision, f"a plan for {target}", (), prepare, layers)


def _tensorrt_precision(settings: Settings) -> str:
    precision = settings.precision or "fp16"
    if precision == "bf16":
        raise StartError("TensorRT computes in fp16 or fp32 here: --precision bf16 is for --engine openvino")
    if settings.threads:
        raise StartError("--threads is for engines on the CPU, and TensorRT computes on a GPU: leave it off")
    if settings.tf32 and precision != "fp32":
        raise StartError("--tf32 is a way to compute fp32 products: give --precision fp32 with it")
    return precision


def _prepared(plan: PreparedPlan) -> Prepared:
    return Prepared("plan", plan.plan.path, plan.build_seconds, str(plan.recipe.target), plan)


def _tensorrt_choice(
    precision: str, reason: str, devices: tuple[Device, ...], prepare: Prepare, layers: ReadLayers
) -> EngineChoice:
    def make(
        checkpoint: Checkpoint,
        limits: EngineLimits,
        settings: Settings,
        device: Device,
        prepared: Prepared | None,
    ) -> Engine:
        from trt_server.engines.tensorrt.run.engine import TensorRtEngine

        plan = prepared.plan if prepared else None
        return TensorRtEngine(checkpoint, limits, precision, settings.tf32, device.ordinal, plan)

    flavour = installed_flavour() or TENSORRT
    return EngineChoice(
        flavour.module,
        precision,
        reason,
        devices,
        _TENSORRT_MAX_BATCH,
        make,
        prepare,
        _TENSORRT_PREFIX_CACHE_BYTES,
        layers,
    )


def _how_to_build_elsewhere() -> str:
    """Return how to build for a GPU elsewhere, to end a message with; empty where that needs a GPU here."""
    if installed_flavour() is not TENSORRT_RTX:
        return ""
    return "; to build for a GPU elsewhere: trt-server build --target sm89, or what it has"


def _on_cpu(settings: Settings, reason: str) -> EngineChoice:
    """Return OpenVINO where it is installed, which was measured to be faster on x86-64, else ONNX Runtime."""
    if find_spec("openvino") is not None and platform.machine() in ("x86_64", "AMD64"):
        return _openvino(settings, reason)
    return _onnxruntime(settings, reason)


def _onnxruntime(settings: Settings, reason: str) -> EngineChoice:
    if settings.precision == "bf16":
        raise StartError(
            "onnxruntime computes in fp32 on a CPU: --precision bf16 is for --engine openvino, which "
            "pip install 'trt-server[openvino]' brings"
        )
    if settings.precision == "fp16":
        how = _how_to_build_elsewhere() if settings.engine == "auto" else ""
        raise StartError(f"onnxruntime computes in fp32 on a CPU: leave --precision off or ask for fp32{how}")
    _refuse_tf32(settings)

    def make(
        checkpoint: Checkpoint, limits: EngineLimits, settings: Settings, _: Device, __: Prepared | None
    ) -> Engine:
        from trt_server.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(checkpoint, limits, settings.threads, peak_flops=settings.peak_flops)

    devices = (CpuDevice(),)
    return EngineChoice(
        "onnxruntime", "fp32", reason, devices, _MAX_BATCH, make, _prepare_weights, _PREFIX_CACHE_BYTES
    )


def _openvino(settings: Settings, reason: str) -> EngineChoice:
    if find_spec("openvino") is None:
        raise StartError("the openvino engine needs OpenVINO: pip install 'trt-server[openvino]'")
    precision = settings.precision or "fp32"
    if precision == "fp16":
        how = _how_to_build_elsewhere() if settings.engine == "auto" else ""
        raise StartError(
            f"openvino computes in fp32 or bf16 on a CPU: leave --precision off or ask for one{how}"
        )
    _refuse_tf32(settings)

    def make(
        checkpoint: Checkpoint, limits: EngineLimits, settings: Settings, _: Device, __: Prepared | None
    ) -> Engine:
        from trt_server.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(checkpoint, limits, precision, settings.threads, peak_flops=settings.peak_flops)

    def check_machine() -> None:
        # Every processor has fp32, and the library takes a while to load.
        if precision != "fp32":
            from trt_server.engines.openvino import check_precision

            check_precision(precision)

    return EngineChoice(
        "openvino",
        precision,
        reason,
        (CpuDevice(),),
        _MAX_BATCH,
        make,
        _prepare_weights,
        _PREFIX_CACHE_BYTES,
        check_machine=check_machine,
    )


def _prepare_weights(checkpoint: Checkpoint, _: EngineLimits, __: Settings) -> Prepared:
    start = time.perf_counter()
    weights = weights_as(checkpoint, "float32")
    folder = next(iter(weights.values())).file.parent
    return Prepared("no plan; its weights are in", folder, time.perf_counter() - start)


def _torch(
    precision: str | None, threads: int, ordinals: tuple[int, ...] | None, reason: str
) -> EngineChoice:
    if find_spec("torch") is None:
        raise StartError("the torch engine needs PyTorch: pip install 'trt-server[torch]'")
    # CUDA reads this as it starts, and numbers its devices as NVML does.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    import torch

    on_gpu = torch.cuda.is_available()
    chosen = precision or ("fp16" if on_gpu else "fp32")

    def make(
        checkpoint: Checkpoint, limits: EngineLimits, settings: Settings, device: Device, _: Prepared | None
    ) -> Engine:
        from trt_server.engines.torch import TorchEngine

        peak_flops = settings.peak_flops
        return TorchEngine(checkpoint, limits, chosen, threads, device.ordinal, peak_flops=peak_flops)

    devices: tuple[Device, ...] = (CpuDevice(),)
    if on_gpu:
        names = map(torch.cuda.get_device_name, range(torch.cuda.device_count()))
        gpus = [Gpu(name, "", ordinal) for ordinal, name in enumerate(names)]
        devices = tuple(gpu_device(gpu.name, None, gpu.ordinal) for gpu in _named(gpus, ordinals))
    else:
        _refuse_devices(ordinals, "PyTorch sees no GPU here")
    return EngineChoice("torch", chosen, reason, devices, _MAX_BATCH, make, _prepare_nothing)


def _prepare_nothing(_: Checkpoint, __: EngineLimits, ___: Settings) -> Prepared:
    return Prepared("no plan, nothing to build", None, 0.0)


def _refuse_devices(ordinals: tuple[int, ...] | None, why: str) -> None:
    if ordinals is not None:
        raise StartError(
            f"--devices names GPUs, and {why}: leave it off, or start a server on each share of the cores "
            "(taskset) and give mmlu-client all their addresses"
        )


def _refuse_tf32(settings: Settings) -> None:
    if settings.tf32:
        raise StartError("--tf32 is for the tensorrt engine on an NVIDIA GPU: leave it off")
