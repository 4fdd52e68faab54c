"""Stands in for pycuda.driver: streams that run when they are waited for, and checked memory.

Nothing runs before an event or a stream is synchronised, and then each stream's work in its order: what a
caller forgot to order comes out wrong, as it would on a device.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from fake_gpu import WISHES

_ALIGNMENT = 256

if WISHES.driver_error:
    raise ImportError(WISHES.driver_error)


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class event_flags:  # noqa: N801
    DEFAULT = 0
    BLOCKING_SYNC = 1
    DISABLE_TIMING = 2


_stacks: dict[int, list[Any]] = {}
_lost: list[str] = []


def lose(reason: str) -> None:
    """Every call fails from now on."""
    _lost.append(reason)


def _require_context() -> None:
    if not _stacks.get(threading.get_ident()):
        raise LogicError("invalid device context: none is current in this thread")
    if _lost:
        raise LaunchError(_lost[0])


def init() -> None:
    if not WISHES.devices:
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


class Device:
    def __init__(self, number: int) -> None:
        if number >= WISHES.devices:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")

    @staticmethod
    def count() -> int:
        return int(WISHES.devices)

    def name(self) -> str:
        return str(WISHES.name)

    def compute_capability(self) -> tuple[int, int]:
        return 8, 0

    def pci_bus_id(self) -> str:
        return "0000:00:1E.0"

    def retain_primary_context(self) -> Context:
        return Context()


class Context:
    def push(self) -> None:
        _stacks.setdefault(threading.get_ident(), []).append(self)

    @staticmethod
    def pop() -> None:
        stack = _stacks.get(threading.get_ident())
        if not stack:
            raise LogicError("context::pop failed: there is none")
        stack.pop()
        if _lost:
            raise LaunchError(_lost[0])

    def detach(self) -> None:
        if any(self in stack for stack in _stacks.values()):
            raise LogicError("detached while it is current")


@atexit.register
def _check_stacks() -> None:
    # What pycuda does: it aborts the process.
    if any(_stacks.values()) and threading.main_thread() is threading.current_thread():
        print("PyCUDA ERROR: the context stack was not empty", file=sys.stderr, flush=True)
        os._exit(134)


# Memory.

_allocations: dict[int, np.ndarray[Any, Any]] = {}
_pinned: dict[int, int] = {}


def _aligned(size: int) -> np.ndarray[Any, Any]:
    whole = np.full(size + _ALIGNMENT, 0xAB, np.uint8)
    start = -whole.ctypes.data % _ALIGNMENT
    return whole[start : start + size]


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._memory = _aligned(size)
        self._address = self._memory.ctypes.data
        _allocations[self._address] = self._memory

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        _require_context()
        del _allocations[self._address]


def mem_alloc(size: int) -> DeviceAllocation:
    _require_context()
    if size > mem_get_info()[0]:
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(size)


def mem_get_info() -> tuple[int, int]:
    _require_context()
    return WISHES.memory - sum(memory.size for memory in _allocations.values()), WISHES.memory


def device_view(address: int, size: int) -> np.ndarray[Any, Any]:
    """The bytes at a device address; they must lie in one allocation."""
    for start, memory in _allocations.items():
        if start <= address and address + size <= start + memory.size:
            return memory[address - start : address - start + size]
    raise LaunchError("an illegal memory access was encountered")


def pagelocked_empty(size: int, dtype: Any) -> np.ndarray[Any, Any]:
    _require_context()
    memory: np.ndarray[Any, Any] = _aligned(size * np.dtype(dtype).itemsize).view(dtype)
    _pinned[memory.ctypes.data] = memory.nbytes
    return memory


def _require_pinned(memory: np.ndarray[Any, Any]) -> None:
    start = memory.ctypes.data
    if not any(base <= start and start + memory.nbytes <= base + size for base, size in _pinned.items()):
        raise LogicError("an asynchronous copy wants pinned memory")


def memcpy_htod_async(address: int, source: np.ndarray[Any, Any], stream: Stream) -> None:
    _require_context()
    _require_pinned(source)

    def copy() -> None:
        device_view(address, source.nbytes)[:] = source.view(np.uint8)

    stream.push(copy)


def memcpy_dtoh_async(target: np.ndarray[Any, Any], address: int, stream: Stream) -> None:
    _require_context()
    _require_pinned(target)

    def copy() -> None:
        target.view(np.uint8)[:] = device_view(address, target.nbytes)

    stream.push(copy)


# Streams and events.


class Stream:
    by_handle: dict[int, Stream] = {}  # noqa: RUF012

    def __init__(self, flags: int = 0) -> None:
        _require_context()
        self.flags = flags
        self.handle = id(self)
        self._work: deque[Callable[[], None]] = deque()
        Stream.by_handle[self.handle] = self

    def push(self, work: Callable[[], None]) -> None:
        self._work.append(work)

    def step(self) -> None:
        self._work.popleft()()

    def synchronize(self) -> None:
        _require_context()
        while self._work:
            self.step()

    def wait_for_event(self, event: Event) -> None:
        _require_context()
        self.push(event.run)


class Event:
    def __init__(self, flags: int = 0) -> None:
        _require_context()
        self.flags = flags
        self._stream: Stream | None = None
        self._time: float | None = None

    def record(self, stream: Stream) -> None:
        _require_context()
        self._stream, self._time = stream, None
        stream.push(self._mark)

    def _mark(self) -> None:
        self._time = time.perf_counter()

    def run(self) -> None:
        """Run the stream it was recorded on up to here."""
        while self._stream is not None and self._time is None:
            self._stream.step()

    def synchronize(self) -> None:
        _require_context()
        self.run()

    def time_since(self, earlier: Event) -> float:
        """Milliseconds."""
        if self._time is None or earlier._time is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return (self._time - earlier._time) * 1e3
