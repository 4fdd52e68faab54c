"""The buffers of one batch on its way through the device, and the events between its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pycuda.driver as cuda
from trt_common.one_line import one_line

from trt_server.engines.engine import Batch, EngineTiming, Outcome, Scores
from trt_server.engines.tensorrt.cuda_context import CudaContext
from trt_server.engines.tensorrt.kv_cache import KvCache
from trt_server.engines.tensorrt.layout import Layout
from trt_server.engines.tensorrt.runtime import PlanRuntime
from trt_server.errors import EngineLostError


class BatchBuffers:
    """Pinned host buffers, device buffers and events of one batch.

    Inputs are copied on a stream of their own, so that the copy overlaps the computation of the batch before.
    Outputs are a few bytes a prompt and are copied on the compute stream after the computation.
    """

    def __init__(self, device: CudaContext, runtime: PlanRuntime, inputs: Layout, outputs: Layout) -> None:
        """Allocate the buffers.

        Raises:
            StartError: The memory of the device or the host does not suffice.
        """
        self._device, self._runtime = device, runtime
        self._inputs, self._outputs = inputs, outputs
        self._host_in = device.allocate_host(inputs.bytes)
        self._host_out = device.allocate_host(outputs.bytes)
        self._device_in = device.allocate(inputs.bytes)
        self._device_out = device.allocate(outputs.bytes)
        self._copy_starts, self._copied, self._core_starts, self._core_ends = (cuda.Event() for _ in range(4))
        # A thread that waits for this event sleeps, and leaves the processor to the other threads.
        self._done = cuda.Event(cuda.event_flags.BLOCKING_SYNC)
        self._addresses = {
            tensor.name: base + tensor.offset
            for layout, base in ((inputs, self._device_in), (outputs, self._device_out))
            for tensor in layout.tensors.values()
        }

    def submit(
        self, batch: Batch, past: KvCache | None, profile: int, release: Callable[[BatchBuffers], None]
    ) -> BatchSubmission:
        """Put all stages of a batch on the streams and return.

        Args:
            batch: The batch.
            past: The KV cache that it continues; None where the plan takes none.
            profile: The number of the profile.
            release: Called with these buffers when the batch is done.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            return self._submit(batch, past, profile, release)
        except cuda.Error as error:
            raise _lost(error) from error

    def _submit(
        self, batch: Batch, past: KvCache | None, profile: int, release: Callable[[BatchBuffers], None]
    ) -> BatchSubmission:
        compute, copy = self._device.compute, self._device.copy
        arrays = {
            "token_ids": batch.token_ids,
            "lengths": batch.lengths,
            "candidates": batch.candidates,
        }
        if past is not None:
            arrays["past_length"] = np.full(1, past.length, np.int32)
        for name, array in arrays.items():
            self._inputs[name].view(self._host_in, array.shape)[...] = array
        shapes = {name: array.shape for name, array in arrays.items()}
        addresses = self._addresses
        if past is not None:
            shapes, addresses = shapes | past.shapes, addresses | past.addresses
        context = self._runtime.prepare(profile, shapes, addresses)
        end = self._inputs["token_ids"].end(batch.token_ids.shape)
        self._copy_starts.record(copy)
        cuda.memcpy_htod_async(self._device_in, self._host_in[:end], copy)
        self._copied.record(copy)
        compute.wait_for_event(self._copied)
        self._core_starts.record(compute)
        self._runtime.enqueue(context)
        self._core_ends.record(compute)
        out_end = self._outputs["candidate_logprobs"].end(batch.candidates.shape)
        cuda.memcpy_dtoh_async(self._host_out[:out_end], self._device_out, compute)
        self._done.record(compute)
        return BatchSubmission(self, batch.candidates.shape, release)

    def wait(self, shape: tuple[int, ...]) -> Outcome:
        """Wait for the submitted batch, whose candidates have this shape.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            self._done.synchronize()
            timing = self._timing()
        except cuda.Error as error:
            raise _lost(error) from error
        self._runtime.check()
        prompts = shape[:1]
        views = {"candidate_logprobs": shape, "top_token": prompts, "top_logprob": prompts}
        # The arrays are copied, because the next batch overwrites the buffers.
        logprobs, tokens, top_logprobs = (
            np.array(self._outputs[name].view(self._host_out, size)) for name, size in views.items()
        )
        return Outcome(Scores(logprobs, tokens, top_logprobs), timing)

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

    slot: BatchBuffers
    candidates_shape: tuple[int, ...]
    release: Callable[[BatchBuffers], None]

    def wait(self) -> Outcome:
        """Wait for the batch and release its buffers.

        Raises:
            EngineLostError: The device or TensorRT failed.
        """
        try:
            return self.slot.wait(self.candidates_shape)
        finally:
            self.release(self.slot)


def _nanoseconds(first: cuda.Event, last: cuda.Event) -> int:
    return int(last.time_since(first) * 1e6)


def _lost(error: Exception) -> EngineLostError:
    return EngineLostError(f"the CUDA device failed: {one_line(error)}; the server has to be started again")
