"""The plan for the device that is here."""

from __future__ import annotations

from functools import partial

from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.capabilities import target_here
from trt_server.engines.tensorrt.cuda_context import CudaContext, out_of_memory
from trt_server.engines.tensorrt.prepared_plan import PreparedPlan, prepare_for
from trt_server.model.checkpoint import Checkpoint


def prepare_plan(
    checkpoint: Checkpoint,
    limits: EngineLimits,
    precision: str,
    tf32: bool,
    ordinal: int = 0,
    opset: int | None = None,
) -> PreparedPlan:
    """Build the plan, or find it, without loading it. opset: as for prepare_for. Raises StartError."""
    device = CudaContext(ordinal)
    try:
        return prepare_on(device, checkpoint, limits, precision, tf32, opset)
    finally:
        device.close()


def prepare_on(
    device: CudaContext,
    checkpoint: Checkpoint,
    limits: EngineLimits,
    precision: str,
    tf32: bool,
    opset: int | None = None,
) -> PreparedPlan:
    """As prepare_plan, where the thread holds the device already."""
    target = target_here(device.name, device.compute_capability)
    return prepare_for(target, checkpoint, limits, precision, tf32, partial(out_of_memory, device), opset)
