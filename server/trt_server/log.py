"""Logs on standard error, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import time

from pythonjsonlogger.json import JsonFormatter

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


def set_up_logging(format_: str, level: str) -> None:
    """Send every logger's records to standard error, UTC time stamps."""
    handler = logging.StreamHandler()
    formatter = (
        JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
        if format_ == "json"
        else logging.Formatter("{asctime} {levelname:<7} {message}", style="{")
    )
    formatter.converter = time.gmtime
    formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Libraries speak from warning on: a request's own line is ours to write.
    for name in ("asyncio", "grpc", "transformers", "huggingface_hub", "filelock", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
