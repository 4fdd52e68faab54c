"""The compute capabilities that TensorRT-RTX's builder can be told to build for, on any machine."""

from __future__ import annotations

from typing import Any

from trt_server.engines.tensorrt.library import IS_RTX, TITLE, trt
from trt_server.engines.tensorrt.target import PlanTarget
from trt_server.errors import StartError


def target_here(device: str, capability: tuple[int, int]) -> PlanTarget:
    """Of a device that is here. TensorRT times kernels on it, for its like; TensorRT-RTX takes its capability
    alone into account."""
    major, minor = capability
    return PlanTarget("" if IS_RTX else device, (f"sm{major}{minor}",))


def target_elsewhere(capabilities: tuple[str, ...]) -> PlanTarget:
    """capabilities: as "sm80". Raises StartError for what cannot be built without the device."""
    known = _known()
    for capability in capabilities:
        if capability not in known:
            raise StartError(f"--target: {TITLE} builds for {', '.join(known)}, and not for {capability}")
    return PlanTarget("", tuple(sorted(set(capabilities), key=known.index)))


def set_targets(config: trt.IBuilderConfig, target: PlanTarget) -> None:
    """Tell the builder, where it can be told. What it has no name for is the device here, which it builds for
    unless told otherwise."""
    if not IS_RTX or not set(target.capabilities) <= set(_known()):
        return
    rtx: Any = config
    rtx.num_compute_capabilities = len(target.capabilities)
    for index, capability in enumerate(target.capabilities):
        rtx.set_compute_capability(_members()[capability.upper()], index)


def _known() -> list[str]:
    numbers = (name[2:] for name in _members() if name.startswith("SM"))
    return [f"sm{number}" for number in sorted(numbers, key=int)]


def _members() -> dict[str, Any]:
    return dict(getattr(trt, "ComputeCapability").__members__) if IS_RTX else {}  # noqa: B009
