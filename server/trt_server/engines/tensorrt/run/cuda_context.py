"""A device's CUDA context in one thread: the primary context, two streams and allocated memory."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from threading import Lock
from typing import Any

import numpy as np

# CUDA reads this as it starts: kernels are loaded when they are first run, not all at once.
os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")

import pycuda.driver as cuda
from trt_common.one_line import one_line

from trt_server.devices.device import gpu_label
from trt_server.engines.tensorrt.run.layout import Block
from trt_server.errors import StartError

# CU_STREAM_NON_BLOCKING: no implicit wait for the legacy default stream, which the reference in PyTorch uses.
_NON_BLOCKING = 1
_EVENT_PAIRS = 64

_primary_contexts: dict[int, Any] = {}
_retaining = Lock()


class CudaContext:
    """The primary context of a device, current in the thread that made this object until `close`.

    The process retains the primary context until it ends: creating it again takes time and loses its loaded
    kernels.

    Attributes:
        compute: The stream that engines run on.
        copy: The stream that inputs are copied on.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Make the context of the device with this CUDA number current.

        Raises:
            StartError: There is no such device, or its memory is full.
        """
        self._ordinal = ordinal
        self._allocations: list[Any] = []
        try:
            cuda.init()
            self.device = cuda.Device(ordinal)
            _primary_context(self.device, ordinal).push()
        except cuda.Error as error:
            raise self._unusable(error) from error
        try:
            self.compute = cuda.Stream(_NON_BLOCKING)
            self.copy = cuda.Stream(_NON_BLOCKING)
        except cuda.Error as error:
            self.close()
            raise self._unusable(error) from error

    @property
    def name(self) -> str:
        """The name that the driver gives to this kind of device."""
        return str(self.device.name())

    @property
    def label(self) -> str:
        """The device's name, with its number where there are several."""
        return gpu_label(self.name, self._ordinal)

    @property
    def compute_capability(self) -> tuple[int, int]:
        """The major and minor number of the compute capability."""
        major, minor = self.device.compute_capability()
        return int(major), int(minor)

    def memory(self) -> tuple[int, int]:
        """Return the device's free bytes and its total bytes."""
        free, total = cuda.mem_get_info()
        return int(free), int(total)

    def allocate(self, size: int, what: str = "activations and buffers") -> int:
        """Return the address of `size` bytes on the device, valid until `close`.

        Raises:
            StartError: The device has too little free memory.
        """
        try:
            allocation = cuda.mem_alloc(max(size, 1))
        except cuda.MemoryError as error:
            raise StartError(out_of_memory(self, f"{size:,} bytes for {what}")) from error
        self._allocations.append(allocation)
        return int(allocation)

    def allocate_host(self, size: int) -> Block:
        """Return pinned host memory, uint8 [size], which lives as long as it is referred to.

        Raises:
            StartError: The host cannot pin that much.
        """
        try:
            block: Block = cuda.pagelocked_empty(max(size, 1), np.uint8)
        except cuda.MemoryError as error:
            raise StartError(
                f"the host has no {size:,} bytes of memory to pin for copies ({one_line(error)}): stop "
                "what else runs here, or raise the limit of locked memory (ulimit -l)"
            ) from error
        block[:] = 0
        return block

    def upload(self, address: int, content: Block) -> None:
        """Copy uint8 [size] to the device, and wait until it is there."""
        pinned = self.allocate_host(content.size)
        pinned[:] = content
        cuda.memcpy_htod_async(address, pinned, self.compute)
        self.compute.synchronize()

    def event_cost_ns(self) -> int:
        """Return the nanoseconds between two events with no work between them: the median of 64 pairs."""
        pairs = [(cuda.Event(), cuda.Event()) for _ in range(_EVENT_PAIRS)]
        for first, last in pairs:
            first.record(self.compute)
            last.record(self.compute)
        self.compute.synchronize()
        return int(np.median([last.time_since(first) for first, last in pairs]) * 1e6)

    def close(self) -> None:
        """Free what was allocated, and leave the context. A device that failed does not make this fail."""
        # A device that has failed answers every call with an error; the driver frees it as the process ends.
        with suppress(cuda.Error):
            for allocation in self._allocations:
                allocation.free()
        self._allocations.clear()
        # Streams, events and pinned memory have to be freed while their context is current.
        self.compute = self.copy = None
        gc.collect()
        with suppress(cuda.Error):
            cuda.Context.pop()

    def _unusable(self, error: Exception) -> StartError:
        if isinstance(error, cuda.MemoryError):
            return StartError(
                f"{self.label} has no memory left for a CUDA context and its streams ({one_line(error)}): "
                "stop what else runs on it (nvidia-smi)"
            )
        return StartError(f"no usable CUDA device: {one_line(error)}; see whether nvidia-smi shows one")


def _primary_context(device: Any, ordinal: int) -> Any:
    with _retaining:
        if ordinal not in _primary_contexts:
            _primary_contexts[ordinal] = device.retain_primary_context()
        return _primary_contexts[ordinal]


def out_of_memory(context: CudaContext, what: str) -> str:
    """Return the error text for a device that lacks memory for `what`."""
    free, total = context.memory()
    return (
        f"{context.label} is out of memory: {what} are needed and {free:,} of its {total:,} bytes are free; "
        "stop what else runs on it (nvidia-smi), or lower --max-batch-size, --max-prompt-tokens, "
        "--max-scored-positions or --prefix-cache-bytes"
    )
