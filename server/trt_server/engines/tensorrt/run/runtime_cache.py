"""The cache of kernels that TensorRT-RTX compiles for this device when a plan is first run."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from trt_server.cache.cache_file import CacheFile
from trt_server.engines.tensorrt.library import FLAVOUR, TITLE, VERSION, trt
from trt_server.readable import megabytes

log = logging.getLogger(__name__)

_HASH_BYTES = hashlib.sha256().digest_size


class RuntimeCache:
    """TensorRT-RTX's runtime cache of one engine.

    Kernels are code, as plans are: the file begins with the hash of the rest, and is not used where that
    differs. TensorRT-RTX itself refuses kernels for other devices and of other versions.

    Attributes:
        config: The configuration for execution contexts. It limits them to kernels for dynamic shapes:
            kernels specialized to one shape would be compiled, and replace others, while requests are
            answered.
    """

    def __init__(self, engine: trt.ICudaEngine, device: str, fingerprint: str) -> None:
        """Read the kernels that an earlier start has written.

        Args:
            engine: The loaded plan.
            device: The name of the device.
            fingerprint: The fingerprint of the plan.
        """
        rtx: Any = engine
        library: Any = trt
        self._file = CacheFile("kernels", FLAVOUR.module, VERSION, device, fingerprint, suffix="cache")
        self.config: Any = rtx.create_runtime_config()
        strategies = library.DynamicShapesKernelSpecializationStrategy
        self.config.dynamic_shapes_kernel_specialization_strategy = strategies.NONE
        self._cache = self.config.create_runtime_cache()
        self._found = self._read()
        self.config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write the compiled kernels, once everything has run that will run."""
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._found:
            self._file.write(hashlib.sha256(content).digest() + content)
            log.info("%s keeps the kernels it compiled, %s", TITLE, megabytes(len(content)))

    def _read(self) -> bytes:
        """Load the file into TensorRT-RTX's cache and return its content; empty where nothing was loaded."""
        file = self._file.read()
        digest, content = file[:_HASH_BYTES], file[_HASH_BYTES:]
        if not file:
            log.info("%s compiles this plan's kernels as it warms up, once on this device", TITLE)
        elif hashlib.sha256(content).digest() != digest:
            log.warning("%s is not as it was written: kernels are compiled again", self._file.path)
        elif not self._cache.deserialize(content):
            log.info("%s takes no kernels of %s: it compiles them again", TITLE, self._file.path)
        else:
            return content
        return b""
