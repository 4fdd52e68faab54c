"""The file that a plan is written to while it is built, hashed as it is written."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from trt_server.engines.tensorrt.library import trt
from trt_server.engines.tensorrt.plan.digest import PlanDigest

# 10.13 and later write a plan as a stream; older versions return it whole.
_Stream: Any = getattr(trt, "IStreamWriter", object)
_BLOCK_BYTES = 64 * 1024 * 1024


class PlanFile(_Stream):  # type: ignore[misc]
    """The file of a plan that is being built; `bytes` is how many have been written."""

    def __init__(self, path: Path) -> None:
        _Stream.__init__(self)
        self.bytes = 0
        self._digest = PlanDigest()
        self._file = path.open("wb")
        self._error: OSError | None = None

    def __enter__(self) -> PlanFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def digest(self) -> str:
        """The hash of the whole plan, once it is built."""
        return self._digest.hexdigest()

    def build(
        self, builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig
    ) -> bool:
        """Build the plan into the file.

        Returns:
            False where TensorRT did not build it; it has logged the reason then.

        Raises:
            OSError: The file cannot be written.
        """
        if hasattr(builder, "build_serialized_network_to_stream"):
            streaming: Any = builder
            built = bool(streaming.build_serialized_network_to_stream(network, config, self))
        else:
            plan = builder.build_serialized_network(network, config)
            built = plan is not None
            # A view of the plan is written in blocks, so that the plan is in memory only once.
            view = memoryview(plan if built else b"")
            for start in range(0, len(view), _BLOCK_BYTES):
                self.write(view[start : start + _BLOCK_BYTES])
        if self._error is not None:
            raise self._error
        return built

    def write(self, data: Any) -> int:
        """Write bytes for TensorRT, and return how many were written.

        TensorRT cannot pass on an exception: a smaller number than it gave ends the build.
        """
        try:
            self._file.write(data)
        except OSError as error:
            self._error = error
            return 0
        self._digest.update(data)
        self.bytes += len(data)
        return len(data)
