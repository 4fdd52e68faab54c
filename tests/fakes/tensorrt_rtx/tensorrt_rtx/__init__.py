"""TensorRT-RTX, where it has more than TensorRT: targets, and kernels that are compiled when first run."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pycuda.driver as cuda
from fake_gpu import WISHES, note
from fake_tensorrt import *  # noqa: F403
from fake_tensorrt import (  # noqa: F401
    Builder,
    ExecutionContextAllocationStrategy,
    HostMemory,
    __version__,
    _NewConfig,
    _NewContext,
    _NewEngine,
)

ComputeCapability = Enum("ComputeCapability", ["NONE", "CURRENT", "SM75", "SM80", "SM86"])
DynamicShapesKernelSpecializationStrategy = Enum(
    "DynamicShapesKernelSpecializationStrategy", ["LAZY", "EAGER", "NONE"]
)


def _set_compute_capability(self: Any, capability: ComputeCapability, index: int) -> bool:
    assert index < self.num_compute_capabilities
    self.capabilities = (*self.capabilities, capability)
    return True


Builder.needs_device = False
_NewConfig.num_compute_capabilities = 0
_NewConfig.capabilities = ()
_NewConfig.set_compute_capability = _set_compute_capability


class IRuntimeCache:
    """Holds the shapes that kernels were compiled for; takes none that another version wrote."""

    def __init__(self) -> None:
        self.shapes: set[str] = set()

    def serialize(self) -> HostMemory:
        return HostMemory("\n".join([WISHES.tensorrt, *sorted(self.shapes)]).encode())

    def deserialize(self, content: bytes) -> bool:
        version, *shapes = content.decode().split("\n")
        cuda.current_device()
        if version == WISHES.tensorrt:
            self.shapes.update(shapes)
        return bool(version == WISHES.tensorrt)


class _RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    cache: IRuntimeCache | None = None
    strategy: Any = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class _Context(_NewContext):  # type: ignore[misc]
    """Compiles a kernel for each profile, or for each shape where it is not told otherwise."""

    def __init__(self, engine: _NewEngine, config: _RuntimeConfig) -> None:
        super().__init__(engine)
        self._config = config

    def execute_async_v3(self, handle: int) -> bool:
        lazy = self._config.dynamic_shapes_kernel_specialization_strategy
        any_shape = lazy is DynamicShapesKernelSpecializationStrategy.NONE
        shape = f"{self._profile} {'' if any_shape else self._shapes}"
        assert self._config.cache is not None
        if shape not in self._config.cache.shapes:
            note("compile", cuda.current_device())
            self._config.cache.shapes.add(shape)
        return bool(super().execute_async_v3(handle))


def _create_execution_context(self: _NewEngine, config: _RuntimeConfig) -> _Context:
    assert config.strategy is ExecutionContextAllocationStrategy.USER_MANAGED
    return _Context(self, config)


_NewEngine.create_runtime_config = lambda _: _RuntimeConfig()
_NewEngine.create_execution_context = _create_execution_context
