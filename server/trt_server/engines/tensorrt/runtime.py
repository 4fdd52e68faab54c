"""A plan on the device: one execution context a profile, all in one block of memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from trt_common.one_line import reason_of

from trt_server.engines.tensorrt.cuda_context import CudaContext, out_of_memory
from trt_server.engines.tensorrt.layout import Tensor
from trt_server.engines.tensorrt.library import IS_RTX, TITLE, trt
from trt_server.engines.tensorrt.messages import (
    MESSAGES,
    ErrorRecorder,
    no_device,
    speaks_of_cuda,
    speaks_of_memory,
)
from trt_server.engines.tensorrt.profiles import BatchSize, Profile
from trt_server.engines.tensorrt.runtime_cache import RuntimeCache
from trt_server.errors import EngineLostError, StartError


class PlanRuntime:
    """Runs batches on the device's compute stream, one after the other."""

    def __init__(self, plan: Path, profiles: Sequence[Profile], device: CudaContext) -> None:
        """Raises StartError where the plan does not load or the device's memory does not suffice."""
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
        """Raises StartError where the plan has it in another type than our buffers."""
        expected = trt.int32 if tensor.dtype == np.int32 else trt.float32
        found = self._engine.get_tensor_dtype(tensor.name)
        if found != expected:
            raise StartError(
                f"{TITLE} made {tensor.name} {found}, not {expected}: this version is not supported"
            )

    def profile_for(self, size: BatchSize) -> int | None:
        """The number of the profile that takes such a batch; None where none does."""
        fitting = (number for number, profile in enumerate(self._profiles) if profile.holds(size))
        return next(fitting, None)

    def prepare(
        self, profile: int, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]
    ) -> trt.IExecutionContext:
        """The profile's context, set to run these input shapes at these addresses. Raises EngineLostError."""
        context = self._contexts[profile]
        done = [context.set_input_shape(name, shape) for name, shape in shapes.items()]
        done += [context.set_tensor_address(name, address) for name, address in addresses.items()]
        if not all(done):
            self.raise_lost()
        return context

    def enqueue(self, context: trt.IExecutionContext) -> None:
        """Raises EngineLostError."""
        if not context.execute_async_v3(self._device.compute.handle):
            self.raise_lost()

    def check(self) -> None:
        """Raises EngineLostError where TensorRT has reported an error."""
        if self._errors.get_num_errors():
            self.raise_lost()

    def raise_lost(self) -> None:
        reason = self._errors.text or MESSAGES.take_errors() or "it gives no reason"
        raise EngineLostError(f"TensorRT failed: {reason}; the server has to be started again")

    def layer_information(self) -> str:
        """What the plan runs, layer by layer with its kernels, as TensorRT's JSON."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def keep_kernels(self) -> None:
        """Those that were compiled here, for the next start, once all that will run has run."""
        if self._cache is not None:
            self._cache.keep()

    def close(self) -> None:
        # In this order: each lives in the next one's memory.
        self._contexts.clear()
        self._cache = None
        del self._engine, self._runtime

    def _deserialize(self, plan: Path) -> trt.ICudaEngine:
        """The plan is mapped, not read: its pages are the system's, and go as they are copied to the device.

        Before 10.13 the bindings take the buffer with the GIL released. With other threads about (gRPC's run
        already) that is a race where one of them may hold the object too, or where its export makes Python
        objects. A map that only this frame holds is safe: taking its buffer changes two counters of its own.
        """
        with plan.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            engine = self._runtime.deserialize_cuda_engine(content)
        if engine is not None:
            return engine
        reason = self._errors.text or MESSAGES.take_errors() or "it gives no reason"
        if speaks_of_memory(reason):
            size = plan.stat().st_size
            raise StartError(out_of_memory(self._device, f"{size:,} bytes for the weights"))
        if speaks_of_cuda(reason):
            raise StartError(
                f"{TITLE} cannot load {plan} because CUDA failed: {reason}; see whether nvidia-smi shows the "
                "device and its driver is as new as this TensorRT wants"
            )
        raise StartError(f"{TITLE} does not load {plan}: {reason}; remove that folder to build it again")

    def _context(self, profile: int, memory: int) -> trt.IExecutionContext:
        context = self._create_context()
        if context is None:
            reason = self._errors.text or MESSAGES.take_errors()
            if speaks_of_memory(reason):
                raise StartError(out_of_memory(self._device, "more bytes for an execution context"))
            raise StartError(f"{TITLE} makes no execution context: {reason}")
        # What is set on the engine holds for contexts made from then on; this one is made sure of.
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
        """One that is given its memory."""
        engine: Any = self._engine
        strategies: Any = getattr(trt, "ExecutionContextAllocationStrategy", None)
        if strategies is None:
            return engine.create_execution_context_without_device_memory()
        if self._cache is None:
            return engine.create_execution_context(strategies.USER_MANAGED)
        self._cache.config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        return engine.create_execution_context(self._cache.config)


def _activation_bytes(engine: trt.ICudaEngine) -> int:
    """What the most demanding profile needs; the first of these names that this version has."""
    sizes = (getattr(engine, name, None) for name in ("device_memory_size_v2", "device_memory_size"))
    return next(int(size) for size in sizes if size is not None)
