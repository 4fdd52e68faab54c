"""The kernels that TensorRT-RTX compiles for this device as a plan is first run, kept for the next start."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from trt_server.engines.tensorrt.kept_file import KeptFile
from trt_server.engines.tensorrt.library import FLAVOUR, TITLE, VERSION, trt
from trt_server.readable import megabytes

log = logging.getLogger(__name__)

_HASH_BYTES = hashlib.sha256().digest_size


class RuntimeCache:
    """TensorRT-RTX's own, of one engine. Kernels are programs as plans are: the file begins with the hash of
    what follows, and nothing else is taken. TensorRT-RTX refuses those of other devices or versions.

    config: for its execution contexts. They keep to kernels for any shape: what is compiled for one shape
    would be compiled, or run in place of another kernel, while requests are answered.
    """

    def __init__(self, engine: trt.ICudaEngine, device: str, fingerprint: str) -> None:
        """device: its name. fingerprint: the plan's."""
        rtx: Any = engine
        library: Any = trt
        self._file = KeptFile("kernels", FLAVOUR.module, VERSION, device, fingerprint, suffix="cache")
        self.config: Any = rtx.create_runtime_config()
        strategies = library.DynamicShapesKernelSpecializationStrategy
        self.config.dynamic_shapes_kernel_specialization_strategy = strategies.NONE
        self._cache = self.config.create_runtime_cache()
        self._found = self._read()
        self.config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Once everything that will run has run."""
        content = bytes(memoryview(self._cache.serialize()))
        if content != self._found:
            self._file.write(hashlib.sha256(content).digest() + content)
            log.info("%s keeps the kernels it compiled, %s", TITLE, megabytes(len(content)))

    def _read(self) -> bytes:
        """What was found and taken; empty where nothing was."""
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
