"""A plan on the device, with one execution context for each profile, all in one block of memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from trt_common.one_line import reason_of

from trt_server.engines.tensorrt.library import IS_RTX, TITLE, trt
from trt_server.engines.tensorrt.messages import (
    MESSAGES,
    ErrorRecorder,
    is_cuda_failure,
    is_out_of_memory,
    no_device,
)
from trt_server.engines.tensorrt.plan.profiles import BatchSize, Profile
from trt_server.engines.tensorrt.run.cuda_context import CudaContext, out_of_memory
from trt_server.engines.tensorrt.run.layout import Tensor
from trt_server.engines.tensorrt.run.runtime_cache import RuntimeCache
from trt_server.errors import EngineLostError, StartError


class PlanRuntime:
    """Runs batches on the device's compute stream, one after the other."""

    def __init__(self, plan: Path, profiles: Sequence[Profile], device: CudaContext) -> None:
        """Load the plan and create its execution contexts.

        Raises:
            StartError: The plan does not load, or the device's memory does not suffice.
        """
        self._device = device
        self._profiles = profiles
        self._errors = ErrorRecorder()
        MESSAGES.forget_errors()
        try:
            self._runtime = trt.Runtime(MESSAGES)
        except TypeError as error:
            raise no_device() from error
        self._runtime.error_recorder = self._errors
        self._engine: trt.ICudaEngine = self._deserialize(plan)
        self._engine.error_recorder = self._errors
        self._cache = RuntimeCache(self._engine, device.name, plan.parent.name) if IS_RTX else None
        self.activation_bytes = _activation_bytes(self._engine)
        memory = device.allocate(self.activation_bytes)
        self._contexts = [self._context(number, memory) for number in range(len(profiles))]
        device.compute.synchronize()

    def check_tensor(self, tensor: Tensor) -> None:
        """Check that the plan and our buffers have the same type for a tensor.

        Raises:
            StartError: They have not.
        """
        expected = trt.int32 if tensor.dtype == np.int32 else trt.float32
        found = self._engine.get_tensor_dtype(tensor.name)
        if found != expected:
            raise StartError(
                f"{TITLE} made {tensor.name} {found}, not {expected}: this version is not supported"
            )

    def profile_for(self, size: BatchSize) -> int | None:
        """Return the number of the profile that accepts such a batch; None where none does."""
        fitting = (number for number, profile in enumerate(self._profiles) if profile.holds(size))
        return next(fitting, None)

    def prepare(
        self, profile: int, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]
    ) -> trt.IExecutionContext:
        """Return the profile's execution context, set to these input shapes and addresses.

        Raises:
            EngineLostError: TensorRT refuses one of them.
        """
        context = self._contexts[profile]
        done = [context.set_input_shape(name, shape) for name, shape in shapes.items()]
        done += [context.set_tensor_address(name, address) for name, address in addresses.items()]
        if not all(done):
            self.raise_lost()
        return context

    def enqueue(self, context: trt.IExecutionContext) -> None:
        """Put the run of an execution context on the compute stream.

        Raises:
            EngineLostError: TensorRT refuses to run it.
        """
        if not context.execute_async_v3(self._device.compute.handle):
            self.raise_lost()

    def check(self) -> None:
        """Check that TensorRT has reported no error.

        Raises:
            EngineLostError: It has reported one.
        """
        if self._errors.get_num_errors():
            self.raise_lost()

    def raise_lost(self) -> None:
        """Raise EngineLostError with the reason that TensorRT gives."""
        reason = self._errors.text or MESSAGES.take_errors() or "it gives no reason"
        raise EngineLostError(f"TensorRT failed: {reason}; the server has to be started again")

    def layer_information(self) -> str:
        """Return the plan's layers and their kernels as TensorRT's JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def keep_kernels(self) -> None:
        """Write the kernels that were compiled here for the next start, after everything has run once."""
        if self._cache is not None:
            self._cache.keep()

    def close(self) -> None:
        """Free the plan and its execution contexts."""
        # The order matters: each object uses the memory of the next one.
        self._contexts.clear()
        self._cache = None
        del self._engine, self._runtime

    def _deserialize(self, plan: Path) -> trt.ICudaEngine:
        """Load the plan from a mapped file, whose pages can be dropped once they are on the device.

        Before 10.13 the bindings take the buffer with the GIL released. gRPC's threads are running by then,
        and that would be a race if another thread had a reference to the object, or if taking the buffer made
        Python objects. A map that only this frame refers to is safe: taking its buffer only changes two
        counters of its own.
        """
        with plan.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is not None:
            return engine
        reason = self._errors.text or MESSAGES.take_errors() or "it gives no reason"
        if is_out_of_memory(reason):
            size = plan.stat().st_size
            raise StartError(out_of_memory(self._device, f"{size:,} bytes for the weights"))
        if is_cuda_failure(reason):
            raise StartError(
                f"{TITLE} cannot load {plan} because CUDA failed: {reason}; see whether nvidia-smi shows the "
                "device and its driver is as new as this TensorRT wants"
            )
        raise StartError(f"{TITLE} does not load {plan}: {reason}; remove that folder to build it again")

    def _context(self, profile: int, memory: int) -> trt.IExecutionContext:
        context = self._create_context()
        if context is None:
            reason = self._errors.text or MESSAGES.take_errors()
            if is_out_of_memory(reason):
                raise StartError(out_of_memory(self._device, "more bytes for an execution context"))
            raise StartError(f"{TITLE} makes no execution context: {reason}")
        # The engine's recorder is passed on to its contexts; this makes sure of it.
        context.error_recorder = self._errors
        if hasattr(context, "set_device_memory"):
            sized: Any = context
            sized.set_device_memory(memory, self.activation_bytes)
        else:
            unsized: Any = context
            unsized.device_memory = memory
        try:
            context.set_optimization_profile_async(profile, self._device.compute.handle)
        except RuntimeError as error:
            reason = self._errors.text or reason_of(error)
            raise StartError(f"{TITLE} refuses profile {profile}: {reason}") from error
        return context

    def _create_context(self) -> trt.IExecutionContext | None:
        """Create an execution context that uses memory which we allocate."""
        engine: Any = self._engine
        strategies: Any = getattr(trt, "ExecutionContextAllocationStrategy", None)
        if strategies is None:
            return engine.create_execution_context_without_device_memory()
        if self._cache is None:
            return engine.create_execution_context(strategies.USER_MANAGED)
        self._cache.config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        return engine.create_execution_context(self._cache.config)


def _activation_bytes(engine: trt.ICudaEngine) -> int:
    """Return the bytes for activations of the largest profile, by the name that this version has."""
    sizes = (getattr(engine, name, None) for name in ("device_memory_size_v2", "device_memory_size"))
    return next(int(size) for size in sizes if size is not None)
