"""TensorRT's messages: they go to our logs, and its errors are remembered for the text of exceptions."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from trt_common.one_line import one_line

from trt_server.engines.tensorrt.library import TITLE, trt
from trt_server.errors import StartError

log = logging.getLogger("tensorrt")

# An error also becomes the text of an exception, which is logged or answered elsewhere; so TensorRT's own
# line is only a warning. VERBOSE has a line for every kernel that is tried, and is dropped.
_LEVELS = {
    trt.ILogger.Severity.INTERNAL_ERROR: logging.WARNING,
    trt.ILogger.Severity.ERROR: logging.WARNING,
    trt.ILogger.Severity.WARNING: logging.INFO,
    trt.ILogger.Severity.INFO: logging.DEBUG,
}
_ERRORS = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
_REMEMBERED_ERRORS = 8
# The VERBOSE messages that are not dropped: the builder's description of a plan begins with one of these in
# TensorRT-RTX and in TensorRT.
_LAYERS = ("Layers:\n", "Engine Layer Information:\n")


class Messages(trt.ILogger):  # type: ignore[misc]
    """The logger that is given to TensorRT; one a process, because TensorRT keeps the first it is given."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=_REMEMBERED_ERRORS)
        self._layers = ""
        self.last_warning = ""

    def log(self, severity: Any, msg: str) -> None:
        """Log a message of TensorRT, and remember it where it is an error or describes a plan's layers."""
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
        """Forget earlier errors: builds report kernels that do not fit, and then succeed with others."""
        self._errors.clear()

    def take_layers(self) -> str:
        """Return the builder's description of the plan that was built last; empty where it gave none."""
        layers, self._layers = self._layers, ""
        return layers

    def take_errors(self) -> str:
        """Return the errors since the last call, in one line; empty where there was none."""
        errors = "; ".join(dict.fromkeys(self._errors))
        self._errors.clear()
        return errors


MESSAGES = Messages()


class ErrorRecorder(trt.IErrorRecorder):  # type: ignore[misc]
    """The errors of a runtime, its engine and their execution contexts, in whichever thread they occurred."""

    def __init__(self) -> None:
        trt.IErrorRecorder.__init__(self)
        self._errors: list[tuple[Any, str]] = []

    def report_error(self, code: Any, description: str) -> bool:
        """Remember an error; the return value says that the call it occurred in failed."""
        self._errors.append((code, one_line(description)))
        return True

    def get_num_errors(self) -> int:
        """Return the number of errors.

        The bindings call this name; NVIDIA's documentation has another.
        """
        return len(self._errors)

    def get_error_code(self, index: int) -> Any:
        """Return the code of an error."""
        return self._errors[index][0]

    def get_error_desc(self, index: int) -> str:
        """Return the text of an error."""
        return self._errors[index][1]

    def has_overflowed(self) -> bool:
        """Return whether errors were dropped: never."""
        return False

    def clear(self) -> None:
        """Forget all errors."""
        self._errors.clear()

    @property
    def text(self) -> str:
        """All errors in one line; empty where there is none."""
        return "; ".join(dict.fromkeys(description for _, description in self._errors))


def no_device() -> StartError:
    """Return the error for a TypeError of the bindings, which means that TensorRT found no device.

    The library returns a null pointer then, which the bindings cannot convert.
    """
    reason = MESSAGES.take_errors() or MESSAGES.last_warning or "it gives no reason"
    return StartError(f"{TITLE} has no usable CUDA device: {reason}")


def is_out_of_memory(text: str) -> bool:
    """Return whether an error of TensorRT or CUDA says that memory did not suffice."""
    return _mentions(text, "outofmemory", "memoryallocation", "insufficientmemory")


def is_cuda_failure(text: str) -> bool:
    """Return whether an error of TensorRT comes from CUDA, the device or its driver."""
    return _mentions(text, "cudaruntime", "cudaerror", "cudainitialization", "cudadriver")


def _mentions(text: str, *signs: str) -> bool:
    folded = text.lower().replace(" ", "").replace("_", "")
    return any(sign in folded for sign in signs)
