"""The compute capabilities that TensorRT-RTX's builder can build for, on any machine."""

from __future__ import annotations

from typing import Any

from trt_server.engines.tensorrt.library import IS_RTX, TITLE, trt
from trt_server.engines.tensorrt.plan.target import PlanTarget
from trt_server.errors import StartError


def target_here(device: str, capability: tuple[int, int]) -> PlanTarget:
    """Return the target of a device of this machine.

    TensorRT times kernels on the device and builds for its kind; TensorRT-RTX considers its compute
    capability alone.
    """
    major, minor = capability
    return PlanTarget("" if IS_RTX else device, (f"sm{major}{minor}",))


def target_elsewhere(capabilities: tuple[str, ...]) -> PlanTarget:
    """Return the target of GPUs of other machines.

    Args:
        capabilities: Compute capabilities, such as "sm80".

    Raises:
        StartError: The builder does not know one of them.
    """
    known = _known()
    for capability in capabilities:
        if capability not in known:
            raise StartError(f"--target: {TITLE} builds for {', '.join(known)}, and not for {capability}")
    return PlanTarget("", tuple(sorted(set(capabilities), key=known.index)))


def set_targets(config: trt.IBuilderConfig, target: PlanTarget) -> None:
    """Tell TensorRT-RTX's builder what to build for.

    It is not told of a capability that it has no name for: that is this machine's device, its default.
    """
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
