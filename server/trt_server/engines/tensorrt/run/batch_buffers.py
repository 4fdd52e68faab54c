"""The buffers of one batch on its way through the device, and the events between its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pycuda.driver as cuda
from trt_common.one_line import one_line

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores
from trt_server.engines.tensorrt.plan.kv_cache import KvCache
from trt_server.engines.tensorrt.plan.profiles import BatchSize
from trt_server.engines.tensorrt.run.cuda_context import CudaContext
from trt_server.engines.tensorrt.run.layout import Tensor, input_layout, output_layout
from trt_server.engines.tensorrt.run.runtime import PlanRuntime
from trt_server.errors import EngineLostError
from trt_server.model.graph.scoring_graph import OUTPUTS, TOP_OUTPUTS


class BatchBuffers:
    """Pinned host buffers, device buffers and events of one batch.

    Inputs are copied on a stream of their own, so that the copy overlaps the computation of the batch before.
    Outputs are a few bytes a scored position and are copied on the compute stream after the computation.
    """

    def __init__(self, device: CudaContext, runtime: PlanRuntime, most: BatchSize, top_tokens: int) -> None:
        """Allocate the buffers.

        Args:
            device: The device.
            runtime: The plan.
            most: The largest batch.
            top_tokens: How many of the most likely tokens the plan returns for each scored position.

        Raises:
            StartError: The memory of the device or the host does not suffice.
        """
        self._device, self._runtime, self._top_tokens = device, runtime, top_tokens
        inputs, outputs = input_layout(most).bytes, output_layout(most, top_tokens).bytes
        self._host_in = device.allocate_host(inputs)
        self._host_out = device.allocate_host(outputs)
        self._device_in = device.allocate(inputs)
        self._device_out = device.allocate(outputs)
        self._copy_starts, self._copied, self._core_starts, self._core_ends = (cuda.Event() for _ in range(4))
        # A thread that waits for this event sleeps, and leaves the processor to the other threads.
        self._done = cuda.Event(cuda.event_flags.BLOCKING_SYNC)

    def submit(
        self,
        batch: Batch,
        size: BatchSize,
        past: KvCache | None,
        profile: int,
        release: Callable[[BatchBuffers], None],
    ) -> BatchSubmission:
        """Put all stages of a batch on the streams and return.

        Args:
            batch: The batch.
            size: Its size.
            past: The KV cache that it continues; None where the plan takes none.
            profile: The number of the profile.
            release: Called with these buffers when the batch is done.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            outputs = self._submit(batch, size, past, profile)
        except cuda.Error as error:
            raise _lost(error) from error
        return BatchSubmission(self, outputs, batch.top_count, release)

    def _submit(
        self, batch: Batch, size: BatchSize, past: KvCache | None, profile: int
    ) -> tuple[Tensor, ...]:
        """Put all stages on the streams, and return the outputs that are copied to the host."""
        compute, copy = self._device.compute, self._device.copy
        inputs, outputs = input_layout(size), output_layout(size, self._top_tokens)
        for name in size.input_shapes:
            inputs[name].view(self._host_in)[...] = getattr(batch, name)
        shapes = size.input_shapes
        addresses = inputs.addresses(self._device_in) | outputs.addresses(self._device_out)
        if past is not None:
            inputs["past_length"].view(self._host_in)[...] = past.length
            shapes, addresses = shapes | past.shapes, addresses | past.addresses
        context = self._runtime.prepare(profile, shapes, addresses)
        self._copy_starts.record(copy)
        cuda.memcpy_htod_async(self._device_in, self._host_in[: inputs.bytes], copy)
        self._copied.record(copy)
        compute.wait_for_event(self._copied)
        self._core_starts.record(compute)
        self._runtime.enqueue(context)
        self._core_ends.record(compute)
        names = (*OUTPUTS, *TOP_OUTPUTS) if batch.top_count else OUTPUTS
        wanted = tuple(outputs[name] for name in names)
        cuda.memcpy_dtoh_async(self._host_out[: wanted[-1].end], self._device_out, compute)
        self._done.record(compute)
        return wanted

    def wait(self, outputs: Sequence[Tensor], top_count: int) -> Outcome:
        """Wait for the submitted batch.

        Args:
            outputs: What was copied to the host, in the order of the fields of Scores.
            top_count: How many of the most likely tokens the batch asks for.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            self._done.synchronize()
            timing = self._timing()
        except cuda.Error as error:
            raise _lost(error) from error
        self._runtime.check()
        views = (tensor.view(self._host_out) for tensor in outputs)
        asked = (view if view.ndim == 1 else view[:, :top_count] for view in views)
        # The arrays are copied, because the next batch overwrites the buffers.
        return Outcome(Scores(*map(np.array, asked)), timing)

    def _timing(self) -> EngineTiming:
        """Return the times between the events; an error that the device reports late is raised here too."""
        return EngineTiming(
            copy_in_ns=_nanoseconds(self._copy_starts, self._copied),
            core_ns=_nanoseconds(self._core_starts, self._core_ends),
            waited_ns=_nanoseconds(self._copied, self._core_starts),
            copy_out_ns=_nanoseconds(self._core_ends, self._done),
        )


@dataclass(frozen=True)
class BatchSubmission:
    """A batch that was submitted with its buffers."""

    buffers: BatchBuffers
    outputs: tuple[Tensor, ...]
    top_count: int
    release: Callable[[BatchBuffers], None]

    def wait(self) -> Outcome:
        """Wait for the batch and release its buffers.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            return self.buffers.wait(self.outputs, self.top_count)
        finally:
            self.release(self.buffers)


def _nanoseconds(first: cuda.Event, last: cuda.Event) -> int:
    return int(last.time_since(first) * 1e6)


def _lost(error: Exception) -> EngineLostError:
    return EngineLostError(f"the CUDA device failed: {one_line(error)}; the server has to be started again")
