"""The values that flags of the client alone take, as argparse types.

Each raises ArgumentTypeError with what is wrong.
"""

from __future__ import annotations

import argparse
import errno
from collections.abc import Callable

from trt_common.command_line import path_value, values

from mmlu_client.prompts.limit import MODEL, RequestedLimit
from mmlu_client.service.stages import Slo

SWEPT = ("concurrency", "request-rate")

rate = values.number("a number of requests a second above 0", least=1e-6, most=1e9)
# The width of an interval of shares.
share = values.number("a width between 0 and 1, like 0.02", least=1e-6, most=1.0)
# Requests in flight, and prompts of one request.
million = values.whole(1, 10**6)


def path(value: str) -> str:
    """Check the path of a file or folder, which need not be there, and return it as it was given."""
    try:
        path_value.path(value).stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise argparse.ArgumentTypeError(
                f"{values.quoted(value)} is no path: a link in it leads to itself"
            ) from None
    return value


def prompt_tokens(value: str) -> RequestedLimit:
    """Read a number of tokens from 1, or `model`."""
    try:
        return MODEL if value.strip() == MODEL else values.count(value)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor `{MODEL}`") from None


def slo(value: str) -> Slo:
    """Read a service level objective, such as `latency:200`, which is in milliseconds."""
    try:
        return Slo.parse(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def label(value: str) -> tuple[str, str]:
    """Read a label, such as `model=llama-2-7b`, and return its name and its value."""
    name, equals, text = value.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"{values.quoted(value)} is not NAME=VALUE")
    return name.strip(), text.strip()


def sweep(value: str) -> tuple[str, tuple[float, ...]]:
    """Read a sweep, such as `concurrency=1,2,4`, and return the name of the flag and its values."""
    name, _, listed = value.partition("=")
    if name not in SWEPT or not listed:
        raise argparse.ArgumentTypeError(
            f"{values.quoted(value)} is not like concurrency=1,2,4 or request-rate=5,10"
        )
    parse: Callable[[str], float] = million if name == "concurrency" else rate
    loads = tuple(parse(each) for each in listed.split(","))
    if len(set(loads)) < len(loads):
        raise argparse.ArgumentTypeError(f"{values.quoted(value)} names a load twice")
    return name, loads
