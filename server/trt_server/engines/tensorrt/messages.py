"""What TensorRT says: into our logs, and kept where it is an error."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from trt_common.one_line import one_line

from trt_server.engines.tensorrt.library import TITLE, trt
from trt_server.errors import StartError

log = logging.getLogger("tensorrt")

# Its errors become the text of an exception that is logged or answered where it is raised; its own wording
# stands beside it as a warning. VERBOSE is a line for every kernel it tries, and is dropped.
_LEVELS = {
    trt.ILogger.Severity.INTERNAL_ERROR: logging.WARNING,
    trt.ILogger.Severity.ERROR: logging.WARNING,
    trt.ILogger.Severity.WARNING: logging.INFO,
    trt.ILogger.Severity.INFO: logging.DEBUG,
}
_ERRORS = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
_KEPT = 8
# What is not dropped: how the builder begins to describe a plan, in TensorRT-RTX and in TensorRT.
_LAYERS = ("Layers:\n", "Engine Layer Information:\n")


class Messages(trt.ILogger):  # type: ignore[misc]
    """TensorRT's logger. There is one a process: it keeps the first that it is given."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=_KEPT)
        self._layers = ""
        self.last_warning = ""

    def log(self, severity: Any, msg: str) -> None:
        level = _LEVELS.get(severity)
        if level is None:
            if msg.startswith(_LAYERS):
                self._layers = msg
            return
        if severity in _ERRORS:
            self._errors.append(one_line(msg))
        if severity == trt.ILogger.Severity.WARNING:
            self.last_warning = one_line(msg)
        log.log(level, "%s", one_line(msg))

    def forget_errors(self) -> None:
        """What begins has its own: builds report kernels that do not fit, and go on."""
        self._errors.clear()

    def take_layers(self) -> str:
        """The builder's description of the plan that it built last; empty where it gave none."""
        layers, self._layers = self._layers, ""
        return layers

    def take_errors(self) -> str:
        """The errors since the last call, in one line; empty where there was none."""
        errors = "; ".join(dict.fromkeys(self._errors))
        self._errors.clear()
        return errors


MESSAGES = Messages()


class ErrorRecorder(trt.IErrorRecorder):  # type: ignore[misc]
    """What went wrong in a runtime, its engine and their contexts, whichever thread it was in."""

    def __init__(self) -> None:
        trt.IErrorRecorder.__init__(self)
        self._errors: list[tuple[Any, str]] = []

    def report_error(self, code: Any, description: str) -> bool:
        self._errors.append((code, one_line(description)))
        # Every error is fatal for the call that it happened in.
        return True

    def get_num_errors(self) -> int:
        """The name that the bindings look for; the signatures that NVIDIA publishes have another."""
        return len(self._errors)

    def get_error_code(self, index: int) -> Any:
        return self._errors[index][0]

    def get_error_desc(self, index: int) -> str:
        return self._errors[index][1]

    def has_overflowed(self) -> bool:
        return False

    def clear(self) -> None:
        self._errors.clear()

    @property
    def text(self) -> str:
        """All errors in one line; empty where there is none."""
        return "; ".join(dict.fromkeys(description for _, description in self._errors))


def no_device() -> StartError:
    """What the bindings make a TypeError of: a library that found no device gives them a null pointer."""
    reason = MESSAGES.take_errors() or MESSAGES.last_warning or "it gives no reason"
    return StartError(f"{TITLE} has no usable CUDA device: {reason}")


def speaks_of_memory(text: str) -> bool:
    """Whether an error of TensorRT or CUDA is about memory that was not there."""
    return _speaks_of(text, "outofmemory", "memoryallocation", "insufficientmemory")


def speaks_of_cuda(text: str) -> bool:
    """Whether an error of TensorRT is CUDA's, of the device or its driver, not about what it was given."""
    return _speaks_of(text, "cudaruntime", "cudaerror", "cudainitialization", "cudadriver")


def _speaks_of(text: str, *signs: str) -> bool:
    folded = text.lower().replace(" ", "").replace("_", "")
    return any(sign in folded for sign in signs)
