"""The plan for a device of this machine."""

from __future__ import annotations

from functools import partial

from trt_server.engines.engine import EngineLimits
from trt_server.engines.tensorrt.plan.capabilities import target_here
from trt_server.engines.tensorrt.plan.prepared import PreparedPlan, prepare_for
from trt_server.engines.tensorrt.run.cuda_context import CudaContext, out_of_memory
from trt_server.model.files.checkpoint import Checkpoint


def prepare_plan(
    checkpoint: Checkpoint,
    limits: EngineLimits,
    precision: str,
    tf32: bool,
    ordinal: int = 0,
    opset: int | None = None,
) -> PreparedPlan:
    """Build the plan or find it in the cache, without loading it.

    Args:
        checkpoint: The model.
        limits: The largest batch that the plan has to accept.
        precision: "fp16" or "fp32".
        tf32: Whether fp32 products may run in TF32.
        ordinal: CUDA's number of the device.
        opset: The opset of the graph; None: the one that suits this TensorRT best.

    Raises:
        StartError: The plan cannot be built.
    """
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
    """Do the same as prepare_plan in a thread that has the device's context already."""
    target = target_here(device.name, device.compute_capability)
    return prepare_for(target, checkpoint, limits, precision, tf32, partial(out_of_memory, device), opset)
