"""The log on standard error, as text for people or as JSON for programs."""

from __future__ import annotations

import logging
import re
import time

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from trt_common.one_line import one_line

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


class _TextFormatter(logging.Formatter):
    """Writes a record's fields behind its message, as `name=value`; an event's message has them in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        # Names in the files of a checkpoint, and what callers send, control no terminal.
        record.message = one_line(record.message)
        line = super().formatMessage(record)
        if hasattr(record, "event"):
            return line
        fields = {name: value for name, value in vars(record).items() if name not in RESERVED_ATTRS}
        return " ".join([line, *(f"{name}={_field_text(value)}" for name, value in fields.items())])


def _field_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = str(value)
    # A caller's words are quoted where they could be taken for ours.
    return text if re.fullmatch(r"[\w.:/-]+", text) else repr(text)


def _tells_more_than_that_a_caller_left(record: logging.LogRecord) -> bool:
    """Return whether a record is to be kept: gRPC writes a traceback where it cannot send a call's end.

    Its caller is gone then. Each of a crowd that leaves would fill the log with one.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def set_up_logging(format_: str, level: str) -> None:
    """Send every logger's records to standard error, with time stamps in UTC.

    Args:
        format_: One of FORMATS.
        level: One of LEVELS.
    """
    handler = logging.StreamHandler()
    formatter = (
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
        if format_ == "json"
        else _TextFormatter("{asctime} {levelname:<7} {message}", style="{")
    )
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Of libraries, warnings and errors alone: a request has a line of its own.
    for name in ("asyncio", "grpc", "transformers", "huggingface_hub", "filelock", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_tells_more_than_that_a_caller_left)
