"""Stands in for pycuda.driver: streams that run when they are waited for, and checked memory, a device each.

Nothing runs before an event or a stream is synchronised, and then each stream's work in its order: what a
caller forgot to order comes out wrong, as it would on a device.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import defaultdict, deque
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


_stacks: dict[int, list[Context]] = {}
_lost: dict[int, str] = {}
_lost_when_timed: dict[int, str] = {}
_retained: set[int] = set()


def lose(device: int, reason: str) -> None:
    """Every call for this device fails from now on."""
    _lost[device] = reason


def lose_when_timed(device: int, reason: str) -> None:
    """As lose, from the moment that an event is asked for its time."""
    _lost_when_timed[device] = reason


def current_device() -> int:
    """The number of the one whose context is current in this thread. Raises where none is, or it is lost."""
    stack = _stacks.get(threading.get_ident())
    if not stack:
        raise LogicError("invalid device context: none is current in this thread")
    device = stack[-1].device
    if device in _lost:
        raise LaunchError(_lost[device])
    return device


def has_current() -> bool:
    return bool(_stacks.get(threading.get_ident()))


def init() -> None:
    if not WISHES.devices:
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


class Device:
    def __init__(self, number: int) -> None:
        if number >= WISHES.devices:
            raise LogicError("cuDeviceGet failed: invalid device ordinal")
        self._number = number

    @staticmethod
    def count() -> int:
        return int(WISHES.devices)

    def name(self) -> str:
        others = dict(enumerate(WISHES.others, start=1))
        return str(others.get(self._number, WISHES.name))

    def compute_capability(self) -> tuple[int, int]:
        return 8, 0

    def pci_bus_id(self) -> str:
        return f"0000:00:1{'EF'[self._number]}.0"

    def retain_primary_context(self) -> Context:
        if WISHES.full_at == "context":
            raise MemoryError("cuDevicePrimaryCtxRetain failed: out of memory")
        if self._number in _retained:
            raise LogicError("a primary context that was let go of and made anew")
        _retained.add(self._number)
        return Context(self._number)


class Context:
    def __init__(self, device: int) -> None:
        self.device = device

    def push(self) -> None:
        _stacks.setdefault(threading.get_ident(), []).append(self)

    @staticmethod
    def pop() -> None:
        stack = _stacks.get(threading.get_ident())
        if not stack:
            raise LogicError("context::pop failed: there is none")
        device = stack.pop().device
        if device in _lost:
            raise LaunchError(_lost[device])


@atexit.register
def _check_stacks() -> None:
    # What pycuda does: it aborts the process.
    if any(_stacks.values()) and threading.main_thread() is threading.current_thread():
        print("PyCUDA ERROR: the context stack was not empty", file=sys.stderr, flush=True)
        os._exit(134)


# Memory.

_allocations: dict[int, dict[int, np.ndarray[Any, Any]]] = defaultdict(dict)
_pinned: dict[int, int] = {}


def _aligned(size: int) -> np.ndarray[Any, Any]:
    whole = np.full(size + _ALIGNMENT, 0xAB, np.uint8)
    start = -whole.ctypes.data % _ALIGNMENT
    return whole[start : start + size]


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._device = current_device()
        self._memory = _aligned(size)
        self._address = self._memory.ctypes.data
        _allocations[self._device][self._address] = self._memory

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        if current_device() != self._device:
            raise LogicError("cuMemFree failed: it is another device's")
        del _allocations[self._device][self._address]


def mem_alloc(size: int) -> DeviceAllocation:
    if size > mem_get_info()[0]:
        raise MemoryError("cuMemAlloc failed: out of memory")
    return DeviceAllocation(size)


def mem_get_info() -> tuple[int, int]:
    device = current_device()
    taken = sum(memory.size for memory in _allocations[device].values())
    return 0 if device == WISHES.full else WISHES.memory - taken, WISHES.memory


def device_view(address: int, size: int) -> np.ndarray[Any, Any]:
    """The bytes at an address of the current device; they must lie in one allocation."""
    for start, memory in _allocations[current_device()].items():
        if start <= address and address + size <= start + memory.size:
            return memory[address - start : address - start + size]
    raise LaunchError("an illegal memory access was encountered")


def pagelocked_empty(size: int, dtype: Any) -> np.ndarray[Any, Any]:
    current_device()
    if sum(_pinned.values()) + size > WISHES.pinned:
        raise MemoryError("cuMemHostAlloc failed: out of memory")
    memory: np.ndarray[Any, Any] = _aligned(size * np.dtype(dtype).itemsize).view(dtype)
    _pinned[memory.ctypes.data] = memory.nbytes
    return memory


def _require_pinned(memory: np.ndarray[Any, Any]) -> None:
    start = memory.ctypes.data
    if not any(base <= start and start + memory.nbytes <= base + size for base, size in _pinned.items()):
        raise LogicError("an asynchronous copy wants pinned memory")


def memcpy_htod_async(address: int, source: np.ndarray[Any, Any], stream: Stream) -> None:
    current_device()
    _require_pinned(source)

    def copy() -> None:
        device_view(address, source.nbytes)[:] = source.view(np.uint8)

    stream.push(copy)


def memcpy_dtoh_async(target: np.ndarray[Any, Any], address: int, stream: Stream) -> None:
    current_device()
    _require_pinned(target)

    def copy() -> None:
        target.view(np.uint8)[:] = device_view(address, target.nbytes)

    stream.push(copy)


# Streams and events.


class Stream:
    by_handle: dict[int, Stream] = {}  # noqa: RUF012

    def __init__(self, flags: int = 0) -> None:
        self.device = current_device()
        if WISHES.full_at == "stream":
            raise MemoryError("cuStreamCreate failed: out of memory")
        self.flags = flags
        self.handle = id(self)
        self._work: deque[Callable[[], None]] = deque()
        Stream.by_handle[self.handle] = self

    def push(self, work: Callable[[], None]) -> None:
        self._work.append(work)

    def step(self) -> None:
        self._work.popleft()()

    def synchronize(self) -> None:
        current_device()
        while self._work:
            self.step()

    def wait_for_event(self, event: Event) -> None:
        current_device()
        self.push(event.run)


class Event:
    def __init__(self, flags: int = 0) -> None:
        self.device = current_device()
        self.flags = flags
        self._stream: Stream | None = None
        self._time: float | None = None

    def record(self, stream: Stream) -> None:
        if not current_device() == stream.device == self.device:
            raise LogicError("cuEventRecord failed: event and stream are of two devices")
        self._stream, self._time = stream, None
        stream.push(self._mark)

    def _mark(self) -> None:
        self._time = time.perf_counter()

    def run(self) -> None:
        """Run the stream it was recorded on up to here."""
        while self._stream is not None and self._time is None:
            self._stream.step()

    def synchronize(self) -> None:
        current_device()
        self.run()

    def time_since(self, earlier: Event) -> float:
        """Milliseconds."""
        if (reason := _lost_when_timed.get(current_device())) is not None:
            lose(current_device(), reason)
        current_device()
        if self._time is None or earlier._time is None:
            raise LogicError("cuEventElapsedTime failed: device not ready")
        return (self._time - earlier._time) * 1e3
